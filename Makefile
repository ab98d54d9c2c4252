# Everything runs in .venv, made on first use with the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help smollm2 quickstart grpo-demo bamboo-inis olmix-demo enterprise-demo enterprise-baseline test test-real check format clean

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# torch first and by its exact version, so that no other requirement can pull a different build.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $@

SMOLLM2 := outputs/models/smollm2
smollm2: .venv/.installed  ## the same with a real pretrained model: LoRA of SmolLM2-135M, fetched once (93 MB; minutes, CPU)
	$(BIN)/lightning-posttrain prepare model smollm2 --output_dir $(SMOLLM2)
	$(BIN)/lightning-posttrain prepare format -c configs/format_following/data/hard.yaml \
	  --output_dir outputs/data/format_hard --overwrite true
	$(BIN)/lightning-posttrain fit -c configs/format_following/smollm2/lora.yaml --run.dir outputs/smollm2/format \
	  --run.overwrite true
	$(BIN)/lightning-posttrain compare outputs/smollm2/format --limit 3
	@echo
	@echo "run directory: outputs/smollm2/format    curves: $(BIN)/tensorboard --logdir outputs/smollm2/format/tensorboard"
	@echo "talk to it:    $(BIN)/lightning-posttrain chat --model outputs/smollm2/format/model"

quickstart: .venv/.installed  ## train a tiny model on strict-JSON answers and compare before and after (minutes, CPU)
	$(BIN)/lightning-posttrain prepare format -c configs/format_following/data/quickstart.yaml \
	  --output_dir outputs/data/format_following --overwrite true
	$(BIN)/lightning-posttrain fit -c configs/quickstart/sft.yaml --run.dir outputs/quickstart --run.overwrite true
	$(BIN)/lightning-posttrain compare outputs/quickstart --limit 3
	@echo
	@echo "run directory: outputs/quickstart    curves: $(BIN)/tensorboard --logdir outputs/quickstart/tensorboard"
	@echo "talk to it:    $(BIN)/lightning-posttrain chat --model outputs/quickstart/model"

DEMO := outputs/grpo-demo
grpo-demo: .venv/.installed  ## reinforcement learning on small word problems, beside as much further SFT (minutes, CPU)
	$(BIN)/lightning-posttrain prepare word_problems -c configs/quickstart/word_problems.yaml \
	  --output_dir outputs/data/word_problems --overwrite true
	$(BIN)/lightning-posttrain fit -c configs/quickstart/grpo_prep.yaml --run.dir $(DEMO)/prep --run.overwrite true
	$(BIN)/lightning-posttrain fit -c configs/quickstart/grpo.yaml --run.dir $(DEMO)/grpo --run.overwrite true
	$(BIN)/lightning-posttrain fit -c configs/quickstart/grpo_more_sft.yaml --run.dir $(DEMO)/more-sft \
	  --run.overwrite true --trainer.max_time "$$($(BIN)/python -c 'import datetime, json; \
	  print("00:0" + str(datetime.timedelta(seconds=int(json.load(open("$(DEMO)/grpo/run.json"))["wall_seconds"]))))')"
	$(BIN)/lightning-posttrain report $(DEMO)/prep $(DEMO)/grpo $(DEMO)/more-sft --output $(DEMO)/report
	@echo; echo "supervised training for as long as GRPO took, from the same policy:"
	$(BIN)/lightning-posttrain compare $(DEMO)/more-sft --limit 0
	@echo; echo "GRPO, from the policy of prep:"
	$(BIN)/lightning-posttrain compare $(DEMO)/grpo --limit 2
	@echo
	@echo "curves: $(DEMO)/report/curves.png    rollouts: $(DEMO)/report/report.md and $(DEMO)/grpo/rollouts/*.parquet"

RECIPE := outputs/bamboo_inis_tiny
bamboo-inis: .venv/.installed  ## SFT, DPO and reinforcement learning on tables and documents, a small model (minutes, CPU)
	for stage in sft dpo rlvr; do OUTPUT_DIR=$(RECIPE) $(BIN)/lightning-posttrain fit \
	  -c configs/bamboo_inis/tiny/$$stage.yaml --run.overwrite true || exit 1; done
	$(BIN)/lightning-posttrain report $(RECIPE)/sft $(RECIPE)/dpo $(RECIPE)/rlvr --output $(RECIPE)/report
	@echo "curves: $(RECIPE)/report/curves.png    rollouts: $(RECIPE)/rlvr/rollouts/*.parquet"

# The published data sets; see `prepare corpora --help` for what is read.
DATA ?= $(firstword $(wildcard ../shared/data data/published))
OLMIX := outputs/olmix_tiny
JOBS := 2
MIXES := baseline heavy_code heavy_science heavy_wiki
SEEDS := 1 2 3
LPT := OMP_NUM_THREADS=1 $(BIN)/lightning-posttrain
olmix-demo: .venv/.installed  ## data mixtures: four mixes, a swarm of sixteen, a fit, and the mix it proposes (half an hour, CPU)
	@test -n "$(DATA)" || { echo "name the folder with wikitext2, pubmedqa, gsm8k and bpb in it: make olmix-demo DATA=DIR"; exit 2; }
	$(LPT) prepare corpora --data_dir $(DATA) --vocab_size 2048 --output_dir outputs/data/olmix --overwrite
	$(LPT) mix priors -c configs/olmix/tiny/swarm/sources.yaml --output_file $(OLMIX)/priors.yaml
	for seed in $(SEEDS); do for mix in $(MIXES); do echo $$mix $$seed; done; done | xargs -P $(JOBS) -L 1 sh -c '\
	  echo "mix_$$0, seed $$1"; $(LPT) fit -c configs/olmix/tiny/data_proportions/mix_$$0.yaml --model.seed $$1 --data.seed $$1 \
	  --run.dir $(OLMIX)/mix_$$0-seed$$1 --run.overwrite true >$(OLMIX)/mix_$$0-seed$$1.log 2>&1'
	$(LPT) compare $(foreach mix,$(MIXES),$(foreach seed,$(SEEDS),$(OLMIX)/mix_$(mix)-seed$(seed))) --output $(OLMIX)/proportions
	$(LPT) mix generate -c $(OLMIX)/priors.yaml -c configs/olmix/tiny/swarm/generate.yaml --output_dir $(OLMIX)/swarm
	$(LPT) mix launch $(OLMIX)/swarm --base configs/olmix/tiny/base.yaml --at_a_time $(JOBS)
	$(LPT) mix export $(OLMIX)/swarm --output_dir $(OLMIX)/tables --overwrite
	$(LPT) mix fit -c $(OLMIX)/priors.yaml -c configs/olmix/tiny/swarm/fit.yaml --ratios $(OLMIX)/tables/ratios.csv \
	  --metrics $(OLMIX)/tables/metrics.csv --output_dir $(OLMIX)/fit --overwrite
	$(LPT) mix propose $(OLMIX)/fit --overwrite
	for seed in $(SEEDS); do echo $$seed; done | xargs -P $(JOBS) -L 1 sh -c '\
	  echo "the proposed mix, seed $$0"; $(LPT) fit -c configs/olmix/tiny/base.yaml -c $(OLMIX)/fit/proposal/mix.yaml \
	  --model.seed $$0 --data.seed $$0 --run.dir $(OLMIX)/proposed-seed$$0 --run.overwrite true >$(OLMIX)/proposed-seed$$0.log 2>&1'
	@echo; echo "the proposed mix beside the baseline, on what it was proposed for:"
	$(LPT) compare $(foreach mix,mix_baseline proposed,$(foreach seed,$(SEEDS),$(OLMIX)/$(mix)-seed$(seed))) \
	  --tasks heldout_code heldout_math heldout_gsm8k --output $(OLMIX)/proposed

ENTERPRISE := outputs/enterprise
enterprise-demo: export ENTERPRISE_DATA := outputs/data/enterprise
enterprise-demo: export OUTPUT_DIR := $(ENTERPRISE)
enterprise-demo: .venv/.installed  ## banking77: a small model before and after, beside a bag of words, and a study of two trials (minutes, CPU)
	@test -n "$(DATA)" || { echo "name the folder with banking77 in it: make enterprise-demo DATA=DIR"; exit 2; }
	$(BIN)/lightning-posttrain prepare banking77 --source $(DATA)/banking77 --output_dir $(ENTERPRISE_DATA) --overwrite
	$(BIN)/lightning-posttrain run_experiment -c configs/enterprise/experiments/tiny_banking77.yaml
	$(BIN)/lightning-posttrain validate -c configs/enterprise/evaluation/task_banking77.yaml --trainer.precision 32-true \
	  --model BagOfWords --model.task Banking77 --model.path $(ENTERPRISE_DATA)/banking77/train.jsonl \
	  --run.dir $(ENTERPRISE)/bag_of_words --run.overwrite true
	$(BIN)/lightning-posttrain tune -c configs/enterprise/tuning/tiny.yaml
	@echo; echo "all 3,080 test queries, answered by a bag of words, the untrained model and the trained one:"
	$(BIN)/lightning-posttrain collate bag_of_words=$(ENTERPRISE)/bag_of_words before=$(ENTERPRISE)/tiny_banking77/before/banking77 \
	  after=$(ENTERPRISE)/tiny_banking77/after/banking77 --baseline bag_of_words --metrics valid_rate macro_f1 \
	  --output $(ENTERPRISE)/collated --overwrite

PYTEST := $(BIN)/python -m pytest -n 2 -m "not real"
REPORTED := outputs/enterprise/reported
enterprise-baseline: export ENTERPRISE_DATA := outputs/data/enterprise_reported
enterprise-baseline: export IFEVAL := $(DATA)/ifeval/input_data.jsonl
enterprise-baseline: export SIMPLE_SAFETY_TESTS := $(DATA)/safety/SimpleSafetyTests.csv
enterprise-baseline: export MODEL := $(SMOLLM2)
enterprise-baseline: .venv/.installed  ## SmolLM2-135M, untrained, as an earlier report evaluated it, beside its figures (minutes, CPU)
	@test -n "$(DATA)" || { echo "name the folder with banking77, pubmedqa, tatqa, text2sql, ifeval and safety in it: make enterprise-baseline DATA=DIR"; exit 2; }
	$(BIN)/lightning-posttrain prepare model smollm2 --output_dir $(MODEL)
	for task in banking77 pubmedqa "tatqa --test_only true"; do $(BIN)/lightning-posttrain prepare $$task \
	  --source $(DATA) --split seed --output_dir $(ENTERPRISE_DATA) --overwrite true || exit 1; done
	$(BIN)/lightning-posttrain prepare nl2sql --source $(DATA)/text2sql --only '[geography]' --split official \
	  --output_dir $(ENTERPRISE_DATA) --overwrite true
	$(BIN)/lightning-posttrain validate -c configs/enterprise/evaluation/reported.yaml --run.dir $(REPORTED)/run --run.overwrite true
	$(BIN)/lightning-posttrain collate smollm2=$(REPORTED)/run --reference data/reported/enterprise_smollm2.yaml \
	  --output $(REPORTED)/beside --overwrite true

test: .venv/.installed  ## the test suite but for test-real (offline, CPU, minutes)
	$(PYTEST)

test-real: export OMP_NUM_THREADS := 2
test-real: .venv/.installed  ## tests on SmolLM2-135M and published tokenizers, which are fetched once (220 MB)
	$(BIN)/python -m tests.real.fetch
	$(BIN)/python -m pytest -rs tests/real

check: .venv/.installed  ## formatting, lint, types, tests: what CI runs, and then test-real
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

format: .venv/.installed  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environment, caches and outputs
	rm -rf .venv .cache outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
