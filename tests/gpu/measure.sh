#!/usr/bin/env bash
# Everything that only a GPU can show, in the order of its worth: at most 6 minutes on one H100.
# Usage: bash tests/gpu/measure.sh OUT
# Each part has its own time limit and leaves its results in OUT, so a part that fails or is cut off
# costs only itself; the script ends with 1 then. OUT/log has what every part printed, a JSON file
# the figures of each. Without a GPU it runs the same way with tiny shapes, to prove the script: in
# a minute or two, and with wider limits for busy machines. Needs no network and no installed
# package, only the dependencies.
set -uo pipefail
out=$(realpath -m "${1:?usage: measure.sh OUT}")
cd "$(dirname "$0")/../.."
mkdir -p "$out"
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-python3}
configs=tests/models/configs
failed=0
end=355

part() { # part SECONDS NAME COMMAND...: run it; its output is shown and kept in OUT/log
  local limit=$(($1 < end - SECONDS ? $1 : end - SECONDS)) name=$2 start=$SECONDS code
  shift 2
  if [ "$limit" -lt 10 ]; then
    echo "$name exit=none seconds=0" | tee -a "$out/parts.txt"
    failed=1
    return
  fi
  echo "== $name (at most $limit s)"
  timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$out/log"
  code=${PIPESTATUS[0]}
  [ "$code" = 0 ] || failed=1
  echo "$name exit=$code seconds=$((SECONDS - start))" | tee -a "$out/parts.txt"
}

bench() { # bench SECONDS NAME RECIPE SHAPE ARGUMENTS...
  local limit=$1 name=$2 recipe=$3 shape=$4
  shift 4
  part "$limit" "$name" "$python" -m seccoderx_lite bench "$recipe" --random "$shape" \
    --steps 2 --rounds 1 --output "$out/$name.json" -o sandbox.isolation=limits-only \
    -o judge.verdict=cascade "$@"
}

rm -f "$out/parts.txt" "$out/log"
{ nvidia-smi; "$python" -m pip freeze; } >"$out/machine.txt" 2>&1
if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  lengths=(-o model.max_prompt_tokens=256 -o judge.max_new_tokens=128 -o policy.grpo.prompts_per_step=1)
  part 130 tests "$python" -m pytest tests/gpu -p no:cacheprovider -m "gpu and not slow" -rs \
    -n 4 --durations 10
  bench 110 step-7b recipes/qwen2.5-coder-7b-24gb.yaml $configs/Qwen2.5-Coder-7B-Instruct.json \
    --memory 24GB --layout shared "${lengths[@]}" -o policy.grpo.group_size=6 \
    -o policy.grpo.max_completion_tokens=189
  bench 80 step-3b recipes/qwen2.5-coder-3b-16gb.yaml $configs/Qwen2.5-Coder-3B-Instruct.json \
    --memory 16GB --layout shared "${lengths[@]}" -o policy.grpo.group_size=8 \
    -o policy.grpo.max_completion_tokens=183
  part 80 decoding-7b "$python" tests/benchmarks/decoding.py \
    $configs/Qwen2.5-Coder-7B-Instruct.json --rows 6 --output "$out/decoding-7b.json"
  bench 200 step-1.5b recipes/qwen2.5-coder-1.5b-t4.yaml \
    $configs/Qwen2.5-Coder-1.5B-Instruct.json --memory 16GB "${lengths[@]}" \
    -o policy.grpo.group_size=8 -o policy.grpo.max_completion_tokens=183
else
  end=1200
  part 400 tests "$python" -m pytest tests/gpu/test_kernels.py -p no:cacheprovider --device cpu \
    -k "4_bit or roles or decoding"
  bench 400 step-tiny recipes/tiny.yaml builtin:tiny --layout shared -o model.max_prompt_tokens=64 \
    -o policy.grpo.prompts_per_step=1 -o policy.grpo.max_completion_tokens=32
  part 300 decoding-tiny "$python" tests/benchmarks/decoding.py builtin:tiny --rows 2 --prompt 16 \
    --tokens 8 --output "$out/decoding-tiny.json"
fi
exit $failed
