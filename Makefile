# Tessera. `make demo` and `make test` do all their own set-up.
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
# Modules are compiled once, not by each of the hundreds of processes of a test run.
export NODE_COMPILE_CACHE := $(CURDIR)/build/node-cache
NODE := node
# Building components boots no guest, and goes beside.
UNIT := 'test/build/*.test.ts' 'src/**/*.test.ts'
SYSTEM := 'test/system/*.test.ts'
RATE ?= 50Mbit/s
FIGURE5_RATE ?= 8Mbit/s
COUNT ?= 1000000

.PHONY: help setup setup-test test-import test-export test-formats check test unit system demo faults bench bench-transfer bench-hot bench-simulator bench-import catalogue figure5 fuzz clean format

help:
	@echo 'make demo    move real machines between two clouds on this machine (RATE=50Mbit/s, ARGS=--live or --keep)'
	@echo 'make test    all tests, those that boot guests included'
	@echo 'make test-import  imports a real Debian image, compares every file, boots it (minutes)'
	@echo 'make test-export  exports a machine, boots its disk by BIOS and by UEFI (minutes)'
	@echo 'make test-formats  a real machine that migrates through all disk formats (minutes)'
	@echo 'make check   types, lint, format, dead code, house rules'
	@echo 'make faults  the whole matrix of kills and cancels (long; ONLY=PATTERN for a part), into doc/faults.md'
	@echo 'make bench   benchmarks, into bench/results and bench/RESULTS.md'
	@echo 'make fuzz    every decoder with COUNT=1000000 inputs that may be bad (long; ARGS=target)'
	@echo 'make bench-transfer  the data plane against its peers, as root, an hour (ARGS=--only ID)'
	@echo 'make bench-simulator  the simulator: speed, memory, growth, theory (minutes)'
	@echo 'make bench-hot  hot migration against libvirt, and its parts against theirs, as root (FULL=1, ARGS=--only ID)'
	@echo 'make figure5  the experiment of the paper on real machines, as root, half an hour (FIGURE5_RATE=8Mbit/s)'
	@echo 'make clean   removes all that these made'

setup:
	@scripts/setup

setup-test:
	@scripts/setup test

check: setup
	@tsc --noEmit
	@oxlint --type-aware --deny-warnings
	@oxfmt --check .
	@knip --no-progress
	@$(NODE) --test src/tidy/tidy.test.ts >/dev/null || $(NODE) --test src/tidy/tidy.test.ts
	@echo 'check: all well'

test: unit system

# A test that waits for ever fails, and keeps nobody waiting.
unit: setup-test
	@$(NODE) --test --test-concurrency=2 --test-timeout=600000 $(UNIT)

# One file at a time: guests under emulation need the processors.
system: setup-test
	@$(NODE) --test --test-concurrency=1 --test-timeout=900000 $(SYSTEM)

# Minutes: it builds a Debian image, imports it whole and boots it.
test-import: setup-test
	@$(NODE) --test --test-timeout=1800000 test/long/import.test.ts

# Minutes: it boots an exported machine by BIOS and by UEFI, and imports it again.
test-export: setup-test
	@scripts/setup export
	@$(NODE) --test --test-timeout=1800000 test/long/export.test.ts

# A guest that boots from each disk format, one migration after the other.
test-formats: setup-test
	@$(NODE) --test --test-timeout=1800000 test/long/formats.test.ts

faults: setup-test
	@mkdir -p build; FAULTS=all ONLY='$(ONLY)' $(NODE) --test --test-concurrency=1 \
	  --test-reporter=spec --test-reporter-destination=stdout \
	  --test-reporter=./test/support/fault-table.ts --test-reporter-destination=build/faults.md \
	  'test/system/faults*.test.ts'; status=$$?; mv build/faults.md doc/faults.md; oxfmt doc/faults.md; exit $$status

demo: setup
	@$(NODE) bench/demo/main.ts --rate '$(RATE)' $(ARGS)

bench: setup
	@$(NODE) bench/run.ts

fuzz: setup
	@$(NODE) bench/fuzz/fuzz.ts --count $(COUNT) $(ARGS)

bench-transfer: setup
	@scripts/setup bench
	@$(NODE) bench/transfer/main.ts $(ARGS)

bench-import: setup-test
	@$(NODE) bench/import/main.ts $(ARGS)
	@oxfmt bench/RESULTS.md bench/results

figure5: setup
	@scripts/setup bench
	@$(NODE) bench/figure5/main.ts --rate '$(FIGURE5_RATE)' $(ARGS)
	@oxfmt bench/RESULTS.md bench/results doc/evaluation.md

# What the Debian archive has now; `git diff` shows what changed.
catalogue: setup
	@$(NODE) bench/catalogue.ts

bench-simulator: setup
	@$(NODE) bench/simulator/main.ts $(ARGS)
	@oxfmt bench/RESULTS.md bench/results

bench-hot: setup
	@scripts/setup bench
	@$(NODE) bench/hot/main.ts $(if $(FULL),--full) $(ARGS)

format: setup
	@oxfmt .

clean:
	@if [ -x node_modules/.bin/node ] && [ -d build ]; then $(NODE) bench/demo/stop.ts; fi
	@rm -rf build
