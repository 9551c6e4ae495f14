/*-------------------------------------------------------------------------
 *
 * driver.c
 *		Runs a libFuzzer target without libFuzzer, so that a bounded run needs
 *		nothing but gcc: every file of a corpus, then mutations of them until the
 *		time is up.
 *
 *		TARGET SECONDS CORPUS [SEED]
 *
 * The input that is being tried is kept in CORPUS/../crash-TARGET while it runs,
 * by way of an abort handler of the sanitizer, which prints it.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_LEN		4096
#define MAX_FILES	4096

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern int	LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
extern void __sanitizer_set_death_callback(void (*callback) (void));

typedef struct Input
{
	uint8_t    *data;
	size_t		len;
} Input;

static Input inputs[MAX_FILES];
static size_t ninputs;
static uint64_t state;
static const uint8_t *trying;
static size_t trying_len;

static uint64_t
next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void
print_input(void)
{
	fprintf(stderr, "the input, %zu bytes: ", trying_len);
	for (size_t i = 0; i < trying_len; i++)
		fprintf(stderr, "%02x", trying[i]);
	fprintf(stderr, "\n");
}

static void
try_input(const uint8_t *data, size_t len)
{
	/* a block of its own size, so that every byte too far is seen */
	uint8_t    *copy = malloc(len ? len : 1);

	memcpy(copy, data, len);
	trying = copy;
	trying_len = len;
	(void) LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static void
read_corpus(const char *path)
{
	DIR		   *dir = opendir(path);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL && ninputs < MAX_FILES)
	{
		char		name[1024];
		FILE	   *file;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		file = fopen(name, "rb");
		if (file == NULL)
			continue;
		inputs[ninputs].data = malloc(MAX_LEN);
		inputs[ninputs].len = fread(inputs[ninputs].data, 1, MAX_LEN, file);
		ninputs++;
		fclose(file);
	}
	if (dir != NULL)
		closedir(dir);
}

static size_t
mutate(uint8_t *out)
{
	const Input *from = &inputs[next_random() % ninputs];
	size_t		len = from->len;

	memcpy(out, from->data, len);
	for (uint64_t n = next_random() % 8 + 1; n > 0; n--)
	{
		static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff};
		size_t		at = len ? next_random() % len : 0;

		switch (next_random() % 6)
		{
			case 0:
				if (len)
					out[at] ^= (uint8_t) (1 << next_random() % 8);
				break;
			case 1:
				if (len)
					out[at] = edges[next_random() % 5];
				break;
			case 2:
				len = at;
				break;
			case 3:
				if (len < MAX_LEN)
				{
					memmove(out + at + 1, out + at, len - at);
					out[at] = (uint8_t) next_random();
					len++;
				}
				break;
			case 4:
				for (size_t i = at; i < len && i < at + 4; i++)
					out[i] = (uint8_t) next_random();
				break;
			case 5:
				{
					const Input *other = &inputs[next_random() % ninputs];
					size_t		part = other->len ? next_random() % other->len : 0;

					if (at + part > MAX_LEN)
						part = MAX_LEN - at;
					memcpy(out + at, other->data, part);
					if (at + part > len)
						len = at + part;
				}
				break;
		}
	}
	return len;
}

int
main(int argc, char **argv)
{
	static uint8_t buffer[MAX_LEN + 1];
	struct timespec begin,
				now;
	uint64_t	tried = 0;
	double		limit;

	if (argc < 3)
		return 2;
	limit = strtod(argv[1], NULL);
	state = argc > 3 ? strtoull(argv[3], NULL, 10) | 1 : 88172645463325252ULL;
	if (LLVMFuzzerInitialize != NULL)
		LLVMFuzzerInitialize(&argc, &argv);
	__sanitizer_set_death_callback(print_input);
	read_corpus(argv[2]);
	for (size_t i = 0; i < ninputs; i++)
		try_input(inputs[i].data, inputs[i].len);
	if (ninputs == 0)
	{
		printf("no corpus in %s\n", argv[2]);
		return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do
	{
		for (int i = 0; i < 16; i++, tried++)
			try_input(buffer, mutate(buffer));
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((double) (now.tv_sec - begin.tv_sec) + (double) (now.tv_nsec - begin.tv_nsec) / 1e9 < limit);
	printf("%s: %zu of the corpus, %lu mutations\n", argv[0], ninputs, (unsigned long) tried);
	return 0;
}
