/*-------------------------------------------------------------------------
 *
 * wsput.c
 *		See wsput.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replication/writeset.h"
#include "replication/wsput.h"

void
ws_put_varint(StringInfo to, uint64 value)
{
	while (value >= 0x80)
	{
		appendStringInfoCharMacro(to, (char) (value | 0x80));
		value >>= 7;
	}
	appendStringInfoCharMacro(to, (char) value);
}

void
ws_put_fixed(StringInfo to, uint64 value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		appendStringInfoCharMacro(to, (char) (value >> (8 * i)));
}

void
ws_put_string(StringInfo to, const char *text)
{
	ws_put_varint(to, strlen(text));
	appendStringInfoString(to, text);
}

void
ws_put_header(StringInfo to, uint16 flags, uint32 nkeys, uint64 base)
{
	ws_put_fixed(to, WS_VERSION, 1);
	ws_put_fixed(to, WS_KIND_TRANSACTION, 1);
	ws_put_fixed(to, flags, 2);
	ws_put_fixed(to, nkeys, 4);
	ws_put_fixed(to, 1, 4);
	ws_put_fixed(to, 0, 4);
	ws_put_fixed(to, base, 8);
}

void
ws_put_statement(StringInfo to, const char *role, const char *search_path, const char *statement)
{
	appendStringInfoCharMacro(to, 'X');
	ws_put_string(to, role);
	ws_put_string(to, search_path);
	ws_put_varint(to, 0);		/* settings */
	ws_put_string(to, statement);
}
