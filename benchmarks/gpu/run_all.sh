#!/usr/bin/env bash
# Everything that needs a GPU, in one run of about ten minutes: tests, parity, crops a second beside
# torch and the roofline, the whole way with one and many streams, memory.
# TensorRT is used where it is installed; without it torch with CUDA graphs runs.
#
#     benchmarks/gpu/run_all.sh [FOLDER FOR THE RESULTS]
#
# A part that fails is told at the end and does not stop the others.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out="${1:-benchmarks/results}"
python="${PYTHON:-python3}"
mkdir -p "$out"
failed=()

surepose() { timeout 300 "$python" -c 'import sys; from tracker.cli import main; sys.exit(main())' "$@"; }

part() {
    echo "== $1"
    shift
    "$@" || failed+=("$*")
}

nvidia-smi --query-gpu=name,driver_version,memory.used,memory.total --format=csv || {
    echo "no NVIDIA GPU: nvidia-smi does not run here" >&2
    exit 1
}
card="$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1 | tr -cs '[:alnum:]\n' '-')"

part "tests" timeout 300 "$python" -m pytest tests/gpu -m gpu
if "$python" -c "import tensorrt" 2>/dev/null; then
    part "plans" surepose build --backend tensorrt --precision fp16 --verify
    backend=tensorrt
else
    echo "TensorRT is not here: torch with CUDA graphs"
    backend=torch
fi
part "crops a second" timeout 300 "$python" -m benchmarks.gpu.throughput --json "$out/throughput-$card.json"
for precision in fp32 fp16; do
    part "the whole way, $precision" surepose bench --device cuda \
        --backend "$backend" --precision "$precision" --frames 200 \
        --json "$out/bench-$card-$precision.json"
done
part "the CPU beside it" surepose bench --device cpu --frames 100 \
    --people 1 5 --streams 1 --json "$out/bench-$card-cpu.json"
nvidia-smi --query-gpu=memory.used --format=csv

if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
