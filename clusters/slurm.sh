#!/usr/bin/env bash
# A sweep on a Slurm cluster: a Ray node on each node of the allocation, the sweep on the first of them.
#
#   ASDBENCH_HOME=/shared/asdbench sbatch --nodes=4 --gpus-per-node=2 clusters/slurm.sh --data NAME --trials 20
#
# To be given in the project's folder, which lies on a disk that all nodes see and has the environment of `make` in
# .venv. What follows the script are the options of sweeps/all_types.py. The same command goes on with what an earlier
# one left; Slurm gives it by itself when the time is up or a preempted job gets its turn again.
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

: "${ASDBENCH_HOME:?is not set; name a folder that all nodes see}"
cd "${SLURM_SUBMIT_DIR:-.}"
export PATH="$PWD/.venv/bin:$PATH"
port=6379
steps=()
sweep=""
again=""

end() {
    trap '' TERM INT USR1
    [[ -z $sweep ]] || kill -INT "$sweep" 2>/dev/null && wait "$sweep" || true
    ((${#steps[@]} == 0)) || kill "${steps[@]}" 2>/dev/null || true
    wait || true
    rm -f "$token"
    [[ -z $again ]] || scontrol requeue "$SLURM_JOB_ID"
}

on() { # on NODE COMMAND...: a step on one node, with all of its CPUs and GPUs
    local node=$1
    shift
    srun --export=ALL --nodes=1 --ntasks=1 --nodelist="$node" --cpu-bind=none "$@" &
    steps+=("$!")
}

# The token is in a file of this job that only its owner reads. It is on no command line and in no log.
token="$ASDBENCH_HOME/.slurm-$SLURM_JOB_ID.token"
mkdir -p "$ASDBENCH_HOME"
rm -f "$token"
trap end EXIT
trap 'exit 143' TERM INT
trap 'again=yes; exit 0' USR1
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
# The address by which the other nodes know the first one; ASDBENCH_HEAD_ADDRESS is for nodes on several networks.
address=${ASDBENCH_HEAD_ADDRESS:-}
if [[ -z $address ]]; then
    read -r address _ < <(getent ahostsv4 "$head" | grep -v '^127\.' || hostname -I)
fi

on "$head" ray start --head --block --node-ip-address="$address" --port="$port" \
    --dashboard-host=127.0.0.1 --disable-usage-stats
for ((waited = 0; ; waited++)); do
    ray health-check --address "$address:$port" >/dev/null 2>&1 && break
    if ((waited == 120)) || ! kill -0 "${steps[0]}" 2>/dev/null; then
        echo "Ray does not start on $head ($address:$port); its messages are above" >&2
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
while (there := sum(node["Alive"] for node in ray.nodes())) < int(sys.argv[1]) and time.monotonic() < until:
    time.sleep(1)
print(f"{there} of {sys.argv[1]} nodes are in the cluster", flush=True)
END
wait "$!"

set -m # else bash would have it ignore the interrupt that lets it end in good order
python sweeps/all_types.py "$@" &
sweep=$!
set +m
wait "$sweep"
