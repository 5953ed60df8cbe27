#!/usr/bin/env node
import { processWorld, runProgram } from "../program.ts";
import { deviceProgram } from "./commands.ts";
import { explainDeviceError } from "./device.ts";

process.exitCode = await runProgram(processWorld(), deviceProgram, explainDeviceError);
