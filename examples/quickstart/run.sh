#!/bin/sh
# The whole life at small size: prompts and a constitution in, preference data out, a trained model at the end.
# No key, no GPU. `make quickstart` calls this after the set-up; killed and started again, it goes on where it was.
set -eu
cd "$(dirname "$0")"

echo "== 1. answers, critiques, revisions, verdicts"
solon run revision.yaml
revision=runs/$(readlink runs/latest)

echo "== 2. two answers a prompt, one preferred by a principle"
solon run preference.yaml
preference=runs/$(readlink runs/latest)

echo "== 3. a few steps of DPO on both (far too few to change a model: this shows the way)"
rm -rf models/dpo    # a trained model is never written over; this one is ours
solon train dpo "$revision" "$preference" --model smollm2 --lora --output models/dpo \
  --set max_steps=4 --set per_device_train_batch_size=2 --set gradient_accumulation_steps=1 --set max_length=384

echo "== 4. two pairs, as a person reads them"
solon pairs "$revision" -n 1
solon pairs "$preference" -n 1

echo "datasets  $PWD/$revision/dataset"
echo "          $PWD/$preference/dataset"
echo "model     $PWD/models/dpo"
echo "a whole walk of one row:  cd $PWD && solon show 0"
