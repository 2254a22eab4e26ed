"""A newcomer's first hour, in the environment whose Python runs this: train, kill, go on, evaluate,
profile, generate, launch. Works in the present folder; tools/check_install.sh calls it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = [str(Path(sys.executable).with_name("machin-fast"))]


def run(*words: str, code: int = 0) -> str:
    print("$ machin-fast", *words, flush=True)
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=False)
    print(done.stdout + done.stderr, end="", flush=True)
    if done.returncode != code:
        sys.exit(f"exit code {done.returncode}, where {code} was expected")
    return done.stdout


def killed_in_the_middle(folder: Path, *words: str) -> None:
    """Starts a run and ends it by SIGKILL as soon as it has a checkpoint."""
    print("$ machin-fast", *words, " # kill -9 after the first checkpoint", flush=True)
    process = subprocess.Popen([*PROGRAM, *words])
    while not list(folder.glob("checkpoints/*/manifest.json")):
        if process.poll() is not None:
            sys.exit("it ended before its first checkpoint")
        time.sleep(0.1)
    process.kill()
    process.wait()


def score(folder: str) -> float:
    found: float = json.loads(run("evaluate", folder, "--json"))["mean"]
    return found


def main() -> None:
    run("train", "--algo", "ppo", "--env", "CartPole-v1", "--folder", "ppo", "--seed", "0")
    if score("ppo") < 475:
        sys.exit("PPO did not learn")
    dqn = ["train", "--algo", "dqn", "--env", "CartPole-v1", "--folder", "dqn", "--seed", "0"]
    killed_in_the_middle(Path("dqn"), *dqn, "--checkpoint-every", "4000")
    run("train", "--resume", "--folder", "dqn")
    if score("dqn") < 400:  # of 100 episodes, where 475 was reached in 20
        sys.exit("DQN did not learn")
    run("profile", "--algo", "dqn_per", "--env", "CartPole-v1", "--seconds", "5")
    run("generate", "--algo", "DQN", "--env", "openai_gym", "--output", "config.json")
    config = json.loads(Path("config.json").read_text())
    Path("config.json").write_text(json.dumps({**config, "max_episodes": 20}))
    run("launch", "--config", "config.json")
    run("train", "--algo", "pqo", "--env", "CartPole-v1", code=2)


if __name__ == "__main__":
    main()
