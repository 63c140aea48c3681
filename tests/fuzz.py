"""The long run of `fuzzing.py`: ``python tests/fuzz.py STATE.json --seeds 1000000``.

A seed is a call, or two where there is a backward pass; with ``--what files`` it is a damaged file
(`damaged_files.py`). Blocks of seeds run in processes of their
own, on every CPU level in turn, so that a crash or a hang is a finding with its seed and not the
end. STATE.json is written after each block; the same command goes on from it, and first tries
again what it had found. ``--one SEED`` repeats a seed in this process, for a debugger.
"""

import argparse
import collections
import concurrent.futures
import faulthandler
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path


def run_block(first, count, seconds, fault, what, address_space):
    """In a child: a line for every call, before it and after it."""
    import damaged_files
    import fuzzing

    import fastbn
    from fastbn import _threads

    try:
        import resource

        if address_space:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    except (ImportError, ValueError):
        pass
    _threads.SMALL = 0  # threads however little work there is
    with fuzzing.settings_kept():
        for seed in range(first, first + count):
            print(json.dumps({"seed": seed}), flush=True)
            faulthandler.dump_traceback_later(seconds, exit=True)
            if fault == f"crash:{seed}":
                os.abort()
            if fault == f"hang:{seed}":
                time.sleep(60)
            fastbn.set_num_threads(seed % 5 + 1)
            make = damaged_files.Damage if what == "files" else fuzzing.Fuzzer
            fuzzer = make(random.Random(seed))
            try:
                report = {"outcome": fuzzer.step()}
            except Exception as error:
                report = {"called": fuzzer.called, "error": f"{type(error).__name__}: {error}"}
            print(json.dumps({**report, "calls": fuzzer.calls}), flush=True)
            faulthandler.cancel_dump_traceback_later()


def child(first, count, seconds, level, fault, what, address_space):
    """Outcomes and findings of a block; after a crash it goes on with the next seed."""
    outcomes, findings = collections.Counter(), []
    end = first + count
    while first < end:
        command = [sys.executable, __file__, "-", "--one", str(first), "--block", str(end - first)]
        options = ["--seconds", str(seconds), "--what", what]
        options += ["--address-space", str(address_space)]
        options += ["--fault", fault] if fault else []
        done = subprocess.run(
            [*command, *options],
            # Threads that spin hold the cores that the others of a small call wait for.
            env={"OMP_WAIT_POLICY": "passive", **os.environ, "FASTBN_ISA": level},
            capture_output=True,
            text=True,
        )
        seed = None
        for line in done.stdout.splitlines():
            report = json.loads(line)
            if "seed" in report:
                seed = report["seed"]
                continue
            outcomes["calls"] += report["calls"]
            outcomes[report.get("outcome", "finding")] += 1
            if "error" in report:
                findings.append({"seed": seed, "level": level, **report})
        if done.returncode == 0:
            break
        if seed is None:
            raise SystemExit(done.stderr)
        if done.returncode == 1:  # faulthandler's, on every system
            error = f"no answer within {seconds} s"
        else:
            error = f"crashed with status {done.returncode}"  # on POSIX a signal's number, negative
        outcomes["finding"] += 1
        findings.append({"seed": seed, "level": level, "error": f"{error}\n{done.stderr}"})
        first = seed + 1
    return dict(outcomes), findings


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("--seeds", type=int, default=1_000_000)
    parser.add_argument("--block", type=int, default=5000, help="seeds of a process")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="longest call")
    parser.add_argument("--what", choices=("calls", "files"), default="calls")
    parser.add_argument(
        "--address-space",
        type=int,
        default=8 << 30,
        metavar="BYTES",
        help="more is a MemoryError; 0 for no limit, as sanitizers need (default: %(default)s)",
    )
    parser.add_argument("--one", type=int, metavar="SEED", help="this seed only, here")
    parser.add_argument("--fault", default="", help="crash:SEED or hang:SEED, to test this script")
    args = parser.parse_args()
    if args.one is not None:
        count = args.block if str(args.state) == "-" else 1
        run_block(args.one, count, args.seconds, args.fault, args.what, args.address_space)
        return 0

    from fastbn._atomic import atomic_write
    from fastbn._ext import available_levels

    levels = available_levels()
    state = {"what": args.what, "blocks": {}, "outcomes": {}, "findings": []}
    if args.state.exists():
        state = {"what": "calls"} | json.loads(args.state.read_text())
        if state["what"] != args.what:
            parser.error(f"{args.state} is of {state['what']}, not of {args.what}")
        before, state["findings"] = state["findings"], []
        for finding in before:
            again = finding["seed"], 1, args.seconds, finding["level"], "", args.what
            state["findings"] += child(*again, args.address_space)[1]
    todo = [n for n in range(0, args.seeds, args.block) if str(n) not in state["blocks"]]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = {}
        for first in todo:
            count = min(args.block, args.seeds - first)
            level = levels[first // args.block % len(levels)]
            block = first, count, args.seconds, level, args.fault, args.what, args.address_space
            jobs[pool.submit(child, *block)] = first, count
        for job in concurrent.futures.as_completed(jobs):
            outcomes, findings = job.result()
            first, count = jobs[job]
            state["blocks"][str(first)] = count
            state["outcomes"] = dict(
                collections.Counter(state["outcomes"]) + collections.Counter(outcomes)
            )
            state["findings"] += findings
            with atomic_write(args.state) as file:
                file.write(json.dumps(state, indent=1).encode())
            print(sum(state["blocks"].values()), "seeds", state["outcomes"], flush=True)
    for finding in state["findings"]:
        print(finding)
    return 1 if state["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
