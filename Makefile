# pg_quorum
#
#	make, make install, make installcheck	as for any PostgreSQL extension
#	make check		all tests; no running server, nothing installed
#	make demo		three servers, writes on each, the leader killed
#	make cluster		three servers left running; make cluster-stop ends them
#	make check-crash ROUNDS=100	random crash points under load
#	make check-assert	the suites on a PostgreSQL 15 with assertions
#	make check-majors	the suites on PostgreSQL 17 and 18
#	make check-scenarios [FILES=...]	stories about the consensus core
#	make check-sim [SEEDS=n] [STEPS=n] [SEED=n]	simulation of core and log
#	make check-mutants	deliberate bugs, each of which the tests must catch
#	make bench		against one primary with two synchronous standbys
#
# Only the targets of the first line need PGXS; the others do their own set-up,
# packages included (CONTRIBUTING.md), and build in scratch directories.

OWN_SETUP = check demo cluster cluster-stop check-crash check-fault check-fault-hour check-assert check-majors \
	check-scenarios check-sim check-mutants bench
.PHONY: $(OWN_SETUP)

ifneq ($(filter $(OWN_SETUP),$(MAKECMDGOALS)),)

check:
	@test/check

demo cluster cluster-stop:
	@test/tools/cluster.sh $@

check-crash:
	@ROUNDS=$(or $(ROUNDS),100) test/tools/run.sh tap test/t/003_crash.pl

check-fault:
	@RUNS=$(RUNS) test/fault/run.sh '$(WORKLOAD)' '$(FAULT)' $(or $(SECONDS),30) $(SEED)

# 24 rounds of all workloads
check-fault-hour:
	@RUNS=24 test/fault/run.sh '$(WORKLOAD)' '$(FAULT)' 25 $(SEED)

check-assert:
	@pg_config=$$(test/tools/build-postgres.sh 15 assert) && PG_CONFIG=$$pg_config test/check

check-majors:
	@for major in 17 18; do \
		pg_config=$$(test/tools/build-postgres.sh $$major) && \
		echo "PostgreSQL $$major" && \
		PG_CONFIG=$$pg_config test/check || exit 1; \
	done

check-scenarios:
	@$(MAKE) -s -C test/scenario check $(if $(FILES),FILES='$(abspath $(FILES))')

# SEED: the first one; SEEDS: how many, and no fresh ones; STEPS: of each
check-sim:
	@$(MAKE) -s -C test/sim check $(if $(SEED),CHECK_FIRST=$(SEED)) \
		$(if $(SEEDS)$(SEED),CHECK_SEEDS=$(or $(SEEDS),1) CHECK_SECONDS=0) $(if $(STEPS),STEPS=$(STEPS))

check-mutants:
	@$(MAKE) -s -C test/raft mutants
	@$(MAKE) -s -C test/sim mutants

bench:
	@test/bench/run.sh

else

EXTENSION = pg_quorum
MODULE_big = pg_quorum
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
DATA = $(wildcard pg_quorum--*--*.sql)
DATA_built = pg_quorum--1.0.sql
SHLIB_LINK = -luv -lssl -lcrypto $(libpq)
EXTRA_CLEAN = $(OBJS:.o=.d)

# init comes first: the extension and a cluster of one. pg_regress brings up a
# server of its own from what is installed, since the library has to be
# preloaded.
REGRESS = $(sort $(filter-out init,$(basename $(notdir $(wildcard sql/*.sql)))))
ISOLATION = $(sort $(filter-out isolation_init,$(basename $(notdir $(wildcard specs/*.spec)))))
ifneq ($(REGRESS),)
override REGRESS := init $(REGRESS)
REGRESS_OPTS = --temp-instance=tmp_check --temp-config=test/regress.conf \
	--use-existing --dbname=postgres --no-locale --encoding=UTF8
endif
ifneq ($(ISOLATION),)
override ISOLATION := isolation_init $(ISOLATION)
ISOLATION_OPTS = --temp-instance=tmp_check_iso --temp-config=test/regress.conf \
	--use-existing --dbname=postgres --no-locale --encoding=UTF8
endif
EXTRA_CLEAN += tmp_check tmp_check_iso output_iso
# the database that takes part; PGXS's own default comes last on the command line
override CONTRIB_TESTDB := postgres
override ISOLATION_TESTDB := postgres

# The server's headers are not ours to hold to -Wextra; -isystem says so. No
# bitcode: inlining our entry points into queries gains nothing.
PG_CPPFLAGS = -Isrc -isystem $(includedir_server) -I$(includedir)
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter \
	-Wno-sign-compare -Wno-missing-field-initializers -MMD -MP
override with_llvm := no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

pg_quorum--1.0.sql: $(sort $(wildcard sqlsrc/*.sql))
	cat $^ > $@

-include $(wildcard $(OBJS:.o=.d))

endif
