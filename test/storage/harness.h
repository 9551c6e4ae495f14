/*-------------------------------------------------------------------------
 *
 * harness.h
 *		What the tests of the log share: checks, and small words for the API.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STORAGE_HARNESS_H
#define STORAGE_HARNESS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disk_env.h"
#include "storage/rlog.h"

#define DIR_NAME	"log"
#define SEGMENT		4096

extern const char *current_test;
extern int	checks_failed;

#define CHECK(condition) \
	do { \
		if (!(condition)) \
		{ \
			printf("FAILED %s at %s:%d: %s\n", current_test, __FILE__, __LINE__, #condition); \
			checks_failed++; \
		} \
	} while (0)

#define CHECK_EQ(a, b) \
	do { \
		long long	a_ = (long long) (a); \
		long long	b_ = (long long) (b); \
		if (a_ != b_) \
		{ \
			printf("FAILED %s at %s:%d: %s is %lld, not %lld\n", current_test, __FILE__, \
				   __LINE__, #a, a_, b_); \
			checks_failed++; \
		} \
	} while (0)

typedef struct Test
{
	const char *name;
	void		(*run) (void);
} Test;

#define TEST(name) {#name, name}

extern const Test tests_basic[];
extern const Test tests_crash[];
extern const Test tests_damage[];
extern const Test tests_tokens[];

/* test_main.c */
extern RlogStatus make_log(DiskEnv *de);
extern Rlog *open_log(DiskEnv *de); /* NULL and a failed check when it cannot be */
extern RlogStatus try_open(DiskEnv *de, Rlog **log);
extern RlogStatus append(Rlog *log, uint64_t index, uint64_t term, uint32_t len);
extern RlogStatus round_of_io(Rlog *log);	/* RLOG_END: there was nothing to do */
extern void fill_payload(uint8_t *data, uint64_t index, uint64_t term, uint32_t len);
/* Is the record what append() made of these? */
extern bool is_record(const RlogRecord *rec, uint64_t index, uint64_t term, uint32_t len);
extern RlogReader *open_reader(DiskEnv *de);
extern char last_notice[RLOG_ERROR_LEN];
extern char last_error[RLOG_ERROR_LEN];

#endif							/* STORAGE_HARNESS_H */
