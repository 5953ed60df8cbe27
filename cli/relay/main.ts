#!/usr/bin/env node
import { processWorld, runProgram } from "../program.ts";
import { explainRelayError, relayProgram } from "./commands.ts";

process.exitCode = await runProgram(processWorld(), relayProgram, explainRelayError);
