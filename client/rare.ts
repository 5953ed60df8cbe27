/** What few sessions of a device need: pairing, phrases, evidence and proofs. A page loads it when it is asked for. */
export { exportEvidence } from "./evidence.ts";
export { Inviting } from "./inviting.ts";
export { Joining } from "./joining.ts";
export { createPhrase, revokePhrases, verifyPhrase } from "./phrases.ts";
export { recoverByPhrase } from "./recovery.ts";
export { ReturningTask } from "./returning.ts";
export { paperOfWords } from "./seal/recovery.ts";
export { verifyRetained } from "./verification.ts";
export { askWakeUp, setWakeUp } from "./wake-ups.ts";
