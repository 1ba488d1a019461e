// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Runs the jobs of a workflow locally, one after the other, each in a fresh directory, as GitHub would: the
// steps are those of the file, expressions are evaluated by GitHub's parser, and data passes from one job to
// another only through caches, artifacts and outputs. It implements the five actions that our workflows use,
// and rejects any other.
//
//   npm ci --prefix .github/tools
//   node scripts/forge.mjs .github/tools .github/workflows/matrix.yml DIR \
//       --checkout ''=. --checkout OWNER/HARNESS=. --input matrix=matrix.toml --input harness=OWNER/HARNESS
//
// DIR is for workspaces, caches and artifacts, and must not exist. --checkout REPOSITORY=PATH sets the source
// of a checkout; '' is the repository that the workflow runs for. `scripts/setup.sh` really runs. Prints a
// line for each job and step, and exits with 0 only if every job succeeded.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [prefix, file, place, ...options] = process.argv.slice(2);
if (!prefix || !file || !place) {
    console.error("usage: node forge.mjs PREFIX WORKFLOW DIR [--checkout REPOSITORY=PATH] [--input NAME=VALUE]");
    process.exit(2);
}
const given = { "--checkout": {}, "--input": {} };
while (options.length > 0) {
    const [option, value = ""] = options.splice(0, 2);
    const at = value.indexOf("=");
    if (!(option in given) || at < 0) throw new Error(`no such option: ${option} ${value}`);
    given[option][value.slice(0, at)] = value.slice(at + 1);
}

const modules = resolve(prefix, "node_modules");
const load = (path) => import(pathToFileURL(join(modules, path)).href);
const { Lexer, Parser, Evaluator, data } = await load("@actions/expressions/dist/index.js");
const { default: yaml } = await load("yaml/dist/index.js");

const root = resolve(place);
mkdirSync(root);
const inner = (name) => {
    const path = join(root, name);
    mkdirSync(path, { recursive: true });
    return path;
};

// Expressions

const toData = (value) => JSON.parse(JSON.stringify(value), data.reviver);
const toPlain = (value) => JSON.parse(JSON.stringify(value, data.replacer));

/** As hashFiles: an empty string if no file matches. */
function hashFiles(workspace, patterns) {
    const files = [];
    const walk = (path) => {
        if (!existsSync(path)) return;
        if (statSync(path).isDirectory()) readdirSync(path).sort().forEach((name) => walk(join(path, name)));
        else files.push(path);
    };
    for (const pattern of patterns) {
        const plain = pattern.replace(/\/\*\*$/, "");
        if (plain.includes("*")) throw new Error(`hashFiles: ${pattern}: only DIR/** and FILE are known here`);
        walk(join(workspace, plain));
    }
    if (files.length === 0) return "";
    const hash = createHash("sha256");
    for (const path of files) hash.update(readFileSync(path));
    return hash.digest("hex");
}

/** The functions that depend on the context of an expression. */
function functions(contexts, state) {
    const answer = (name, most, call) => [name.toLowerCase(), { name, minArgs: 0, maxArgs: most, call }];
    const yes = (value) => () => new data.BooleanData(value);
    return new Map([
        answer("always", 0, yes(true)),
        answer("cancelled", 0, yes(false)),
        answer("success", 0, yes(!state.failed)),
        answer("failure", 0, yes(state.failed)),
        answer("hashFiles", 255, (...patterns) => {
            const words = patterns.map((pattern) => pattern.coerceString());
            return new data.StringData(hashFiles(contexts.github.workspace, words));
        }),
    ]);
}

function evaluate(expression, contexts, state) {
    const known = functions(contexts, state);
    const parser = new Parser(new Lexer(expression).lex().tokens, Object.keys(contexts), [...known.values()]);
    return toPlain(new Evaluator(parser.parse(), toData(contexts), known).evaluate());
}

/** A value of the file with its expressions evaluated; a value that is a single expression keeps its type. */
function fill(value, contexts, state = { failed: false }) {
    if (Array.isArray(value)) return value.map((one) => fill(one, contexts, state));
    if (value !== null && typeof value === "object") {
        return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, fill(one, contexts, state)]));
    }
    if (typeof value !== "string") return value;
    const whole = /^\$\{\{((?:(?!\}\}).)*)\}\}$/s.exec(value.trim());
    if (whole) return evaluate(whole[1], contexts, state);
    return value.replace(/\$\{\{(.*?)\}\}/gs, (_, expression) => {
        const found = evaluate(expression, contexts, state);
        return found === null ? "" : String(found);
    });
}

/** Whether a job or step runs; without a status function in its condition, only if nothing has failed. */
function wanted(condition, contexts, state) {
    const bare = String(condition ?? "success()").trim().replace(/^\$\{\{(.*)\}\}$/s, "$1");
    const says = /\b(always|cancelled|success|failure)\s*\(/.test(bare);
    return Boolean(evaluate(says ? bare : `success() && (${bare})`, contexts, state));
}

// Actions

const lines = (text) => String(text).split("\n").map((line) => line.trim()).filter(Boolean);
const log = (...words) => console.log(...words);

/** As on GitHub, a cache is found only with the same list of paths. */
const cacheDir = (paths) => inner(join("caches", createHash("sha256").update(paths.join("\n")).digest("hex").slice(0, 12)));
// Keys may contain characters that file names may not.
const cacheName = (key) => encodeURIComponent(key);

function restore(input, workspace) {
    const paths = lines(input.path);
    const dir = cacheDir(paths);
    const names = readdirSync(dir);
    const newest = (start) =>
        names
            .filter((name) => name.startsWith(cacheName(start)))
            .sort((a, b) => statSync(join(dir, b)).mtimeMs - statSync(join(dir, a)).mtimeMs)[0];
    const exact = names.find((name) => name === cacheName(input.key));
    const found = exact ?? lines(input["restore-keys"] ?? "").map(newest).find(Boolean);
    log(found ? `    cache ${decodeURIComponent(found)}` : `    no cache for ${input.key}`);
    if (found) paths.forEach((path) => copy(join(dir, found, path), join(workspace, path)));
    return Boolean(exact);
}

function save(input, workspace) {
    const paths = lines(input.path);
    const to = join(cacheDir(paths), cacheName(input.key));
    if (existsSync(to)) return log(`    cache ${input.key} is there already`);
    const there = paths.filter((path) => existsSync(join(workspace, path)));
    if (there.length === 0) throw new Error(`cache ${input.key}: none of its paths is there`);
    there.forEach((path) => copy(join(workspace, path), join(to, path)));
}

function copy(from, to) {
    if (!existsSync(from)) return;
    mkdirSync(dirname(to), { recursive: true });
    const done = spawnSync("cp", ["-a", "--reflink=auto", from, to], { encoding: "utf8" });
    if (done.status !== 0) throw new Error(`copying ${from}: ${done.stderr}`);
}

/** An artifact is a zip: no hidden files, links or modes, and only names that are valid on every system. */
function upload(input, workspace) {
    const from = resolve(workspace, input.path.replace(/^~/, process.env.HOME));
    if (/["<>|*?\r\n\\/:]/.test(input.name)) throw new Error(`not a name of an artifact: ${input.name}`);
    if (!existsSync(from)) {
        if (input["if-no-files-found"] === "error") throw new Error(`${from} is not there`);
        return log(`    warning: no files at ${input.path}`);
    }
    const to = join(root, "artifacts", input.name);
    if (existsSync(to)) throw new Error(`there is an artifact ${input.name} already`);
    const walk = (path, target) => {
        for (const name of readdirSync(path)) {
            if (name.startsWith(".")) continue;
            if (/[":<>|*?\r\n\\]/.test(name)) throw new Error(`an artifact cannot hold ${join(path, name)}`);
            if (statSync(join(path, name)).isDirectory()) walk(join(path, name), join(target, name));
            else {
                mkdirSync(target, { recursive: true });
                writeFileSync(join(target, name), readFileSync(join(path, name)));
            }
        }
    };
    walk(from, to);
}

function download(input, workspace) {
    const dir = inner("artifacts");
    const start = input.pattern.replace(/\*$/, "");
    for (const name of readdirSync(dir).filter((name) => name.startsWith(start))) {
        copy(join(dir, name), join(workspace, input.path, name));
    }
}

function checkout(input, workspace, contexts) {
    const repository = input.repository ?? contexts.github.repository;
    const own = repository === contexts.github.repository;
    const from = given["--checkout"][own ? "" : repository];
    if (from === undefined) throw new Error(`--checkout ${own ? "''" : repository}=PATH is not given`);
    const to = join(workspace, input.path ?? ".");
    if (!existsSync(join(from, ".git"))) return cpSync(from, to, { recursive: true, verbatimSymlinks: true });
    const done = spawnSync("git", ["clone", "-q", "--no-hardlinks", resolve(from), to], { encoding: "utf8" });
    if (done.status !== 0) throw new Error(`git clone ${from}: ${done.stderr}`);
}

/** Runs an action; returns what it does when the job ends, if anything. */
function action(name, input, workspace, contexts) {
    // The workflows must name a commit, but which one makes no difference here.
    const [what, commit] = name.split("@");
    if (!/^[0-9a-f]{40}$/.test(commit)) throw new Error(`the action ${name} is not named by a commit`);
    switch (what) {
        case "actions/checkout": return void checkout(input, workspace, contexts);
        case "actions/cache/restore": return void restore(input, workspace);
        case "actions/cache/save": return void save(input, workspace);
        case "actions/cache": return restore(input, workspace) ? undefined : () => save(input, workspace);
        case "actions/upload-artifact": return void upload(input, workspace);
        case "actions/download-artifact": return void download(input, workspace);
        default: throw new Error(`the action ${name} is not known here`);
    }
}

// Jobs

/** A step that runs a script, as `bash -e`. */
function script(step, environment, where, outputs, contexts, state) {
    const told = inner("told");
    const path = (kind) => {
        const name = join(told, `${kind}-${readdirSync(told).length}`);
        writeFileSync(name, "");
        return name;
    };
    const text = path("script");
    writeFileSync(text, fill(step.run, contexts, state));
    const [output, summary] = [path("output"), path("summary")];
    const done = spawnSync("bash", ["-e", text], {
        cwd: where,
        env: { ...environment, GITHUB_OUTPUT: output, GITHUB_STEP_SUMMARY: summary },
        stdio: ["ignore", "inherit", "inherit"],
    });
    for (const line of readFileSync(output, "utf8").split("\n").filter(Boolean)) {
        const at = line.indexOf("=");
        if (at < 0) throw new Error(`not NAME=VALUE in GITHUB_OUTPUT: ${line}`);
        outputs[line.slice(0, at)] = line.slice(at + 1);
    }
    if (done.status !== 0) throw new Error(`exit ${done.status ?? done.signal}`);
}

function runJob(id, title, job, contexts) {
    // As on GitHub, every job has the same path; afterwards its directory is renamed and kept.
    const workspace = inner("workspace");
    contexts = { ...contexts, github: { ...contexts.github, workspace, job: id }, steps: {} };
    const filled = (table, more = {}) => {
        const text = Object.entries(fill(table ?? {}, { ...contexts, ...more }));
        return Object.fromEntries(text.map(([name, value]) => [name, value === null ? "" : String(value)]));
    };
    const env = { ...filled(workflow.env), ...filled(job.env) };
    const state = { failed: false };
    const afterwards = [];
    for (const step of job.steps) {
        const name = step.name ?? step.uses ?? step.run;
        if (!wanted(step.if, { ...contexts, env }, state)) continue;
        log(`  ${title}: ${name}`);
        const outputs = {};
        try {
            const own = { ...env, ...filled(step.env, { env }) };
            const here = { ...contexts, env: own };
            if (step.uses) {
                const rest = action(step.uses, fill(step.with ?? {}, here, state), workspace, contexts);
                if (rest) afterwards.push(rest);
            } else {
                const set = { CI: "true", GITHUB_ACTIONS: "true", GITHUB_WORKSPACE: workspace };
                const where = resolve(workspace, fill(step["working-directory"] ?? ".", here, state));
                script(step, { ...process.env, ...set, ...own }, where, outputs, here, state);
            }
        } catch (error) {
            log(`  ${title}: ${name}: failed: ${error.message}`);
            if (!step["continue-on-error"]) state.failed = true;
        }
        if (step.id) contexts.steps[step.id] = { outputs };
    }
    if (!state.failed) afterwards.forEach((rest) => rest());
    renameSync(workspace, join(inner("done"), title.replace(/[^A-Za-z0-9.-]/g, "-")));
    const outputs = fill(job.outputs ?? {}, contexts);
    const failed = state.failed && !job["continue-on-error"];
    log(`${title}: ${state.failed ? "failed" : "succeeded"}${state.failed && !failed ? ", which is allowed" : ""}`);
    return { result: failed ? "failure" : "success", outputs };
}

/** The rows of a matrix; only the form that our workflows use is supported, a list below `include`. */
function rows(job, contexts) {
    if (!job.strategy?.matrix) return [undefined];
    const { include, ...axes } = fill(job.strategy.matrix, contexts);
    if (!Array.isArray(include) || include.length === 0 || Object.keys(axes).length > 0) {
        throw new Error(`the matrix is not a list of jobs: ${JSON.stringify({ include, ...axes })}`);
    }
    return include;
}

const workflow = yaml.parse(readFileSync(file, "utf8"));
const declared = workflow.on.workflow_dispatch?.inputs ?? {};
const inputs = Object.fromEntries(Object.entries(declared).map(([name, input]) => [name, input.default ?? ""]));
for (const name of Object.keys(given["--input"])) if (!(name in inputs)) throw new Error(`no such input: ${name}`);
const contexts = {
    github: { repository: "caller/kernel", sha: "0".repeat(40), run_id: "1", workspace: "", event_name: "workflow_dispatch" },
    inputs: { ...inputs, ...given["--input"] },
    vars: { VMTEST_DEBIAN_MIRROR: process.env.VMTEST_DEBIAN_MIRROR ?? "" },
};
const results = {};
const left = Object.entries(workflow.jobs);
while (left.length > 0) {
    const needed = (job) => [job.needs ?? []].flat();
    const next = left.findIndex(([, job]) => needed(job).every((id) => id in results));
    if (next < 0) throw new Error(`jobs that wait for each other: ${left.map(([id]) => id)}`);
    const [[id, job]] = left.splice(next, 1);
    const needs = Object.fromEntries(needed(job).map((one) => [one, results[one]]));
    const here = { ...contexts, needs };
    const state = { failed: Object.values(needs).some((one) => one.result !== "success") };
    if (!wanted(job.if, here, state)) {
        log(`${id}: skipped`);
        results[id] = { result: "skipped", outputs: {} };
        continue;
    }
    const each = rows(job, here).map((row) => {
        const with_row = row === undefined ? here : { ...here, matrix: row };
        return runJob(id, row === undefined ? id : String(fill(job.name ?? id, with_row)), job, with_row);
    });
    const bad = each.some((one) => one.result !== "success");
    results[id] = { result: bad ? "failure" : "success", outputs: each[0].outputs };
}
const words = Object.entries(results).map(([id, { result }]) => `${id} ${result}`);
log(`${basename(file)}: ${words.join(", ")}`);
process.exit(Object.values(results).every((one) => one.result === "success") ? 0 : 1);
