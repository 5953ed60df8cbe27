/** The numbers that stand for roles and states in the store's tables. */
import type { DeviceRole, DeviceState } from "./contract.ts";

const roles: readonly DeviceRole[] = ["device", "paper"];
const states: readonly DeviceState[] = ["active", "removed", "refused"];

export function roleNumber(role: DeviceRole): number {
  return roles.indexOf(role);
}

export function stateNumber(state: DeviceState): number {
  return states.indexOf(state);
}

export function roleOf(number: number): DeviceRole {
  return known(roles[number], "role", number);
}

export function stateOf(number: number): DeviceState {
  return known(states[number], "state", number);
}

/** A number no version ever wrote means that the file was changed by something else. */
function known<Value>(value: Value | undefined, what: string, number: number): Value {
  if (value === undefined) throw new RangeError(`no device ${what} has the number ${number}`);
  return value;
}
