#!/usr/bin/env bash
# A sweep on a Slurm cluster: one Ray node on each node of the allocation, and the sweep on the first one.
#
#   ASDBENCH_HOME=/shared/asdbench sbatch --nodes=4 --gpus-per-node=2 clusters/slurm.sh --data NAME --trials 20
#
# Run it in the project's folder, which must be on a disk that all nodes see and contain the environment created by `make`
# in .venv. The options after the script are those of sweeps/all_types.py. The same command resumes an interrupted sweep;
# Slurm requeues the job by itself when its time is up or when it is preempted.
#
#SBATCH --job-name=asdbench
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --no-kill
set -euo pipefail

: "${ASDBENCH_HOME:?is not set; set it to a folder that all nodes see}"
cd "${SLURM_SUBMIT_DIR:-.}"
export PATH="$PWD/.venv/bin:$PATH"
port=6379
steps=()
sweep=""
requeue=""

end() {
    trap '' TERM INT USR1
    [[ -z $sweep ]] || kill -INT "$sweep" 2>/dev/null && wait "$sweep" || true
    ((${#steps[@]} == 0)) || kill "${steps[@]}" 2>/dev/null || true
    wait || true
    rm -f "$token"
    [[ -z $requeue ]] || scontrol requeue "$SLURM_JOB_ID"
}

on() { # on NODE COMMAND...: start a step on one node, with all of its CPUs and GPUs
    local node=$1
    shift
    srun --export=ALL --nodes=1 --ntasks=1 --nodelist="$node" --cpu-bind=none "$@" &
    steps+=("$!")
}

# The token is in a file of this job that only its owner can read. It appears on no command line and in no log.
token="$ASDBENCH_HOME/.slurm-$SLURM_JOB_ID.token"
mkdir -p "$ASDBENCH_HOME"
rm -f "$token"
trap end EXIT
trap 'exit 143' TERM INT
trap 'requeue=yes; exit 0' USR1
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
# The address under which the other nodes reach the first one; set ASDBENCH_HEAD_ADDRESS if nodes have several networks.
address=${ASDBENCH_HEAD_ADDRESS:-}
if [[ -z $address ]]; then
    read -r address _ < <(getent ahostsv4 "$head" | grep -v '^127\.' || hostname -I)
fi

on "$head" ray start --head --block --node-ip-address="$address" --port="$port" \
    --dashboard-host=127.0.0.1 --disable-usage-stats
for ((seconds = 0; ; seconds++)); do
    ray health-check --address "$address:$port" >/dev/null 2>&1 && break
    if ((seconds == 120)) || ! kill -0 "${steps[0]}" 2>/dev/null; then
        echo "Ray did not start on $head ($address:$port); see its messages above" >&2
        exit 1
    fi
    sleep 1
done
for node in "${nodes[@]:1}"; do
    on "$node" ray start --block --address="$address:$port"
done

export RAY_ADDRESS="$address:$port"
python - "${#nodes[@]}" <<'END' &
import sys, time
import ray

ray.init(logging_level="ERROR", log_to_driver=False)
until = time.monotonic() + 180
while (n_alive := sum(node["Alive"] for node in ray.nodes())) < int(sys.argv[1]) and time.monotonic() < until:
    time.sleep(1)
print(f"{n_alive} of {sys.argv[1]} nodes have joined the cluster", flush=True)
END
wait "$!"

set -m # without it, bash would make the sweep ignore the interrupt that lets it shut down cleanly
python sweeps/all_types.py "$@" &
sweep=$!
set +m
wait "$sweep"
