/*-------------------------------------------------------------------------
 *
 * address.c
 *		host:port, [ipv6]:port.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "node/node_internal.h"

bool
node_parse_address(const char *address, char *host, Size host_size, int *port)
{
	const char *colon;
	const char *begin = address;
	Size		len;
	char	   *end;
	long		value;

	if (address[0] == '[')
	{
		const char *bracket = strchr(address, ']');

		if (bracket == NULL || bracket[1] != ':')
			return false;
		begin = address + 1;
		len = bracket - begin;
		colon = bracket + 1;
	}
	else
	{
		colon = strrchr(address, ':');
		if (colon == NULL)
			return false;
		len = colon - address;
		if (memchr(address, ':', len) != NULL)
			return false;		/* a bare IPv6 address needs brackets */
	}
	if (len == 0 || len >= host_size || strlen(address) >= NODE_ADDRESS_LEN)
		return false;
	if (colon[1] < '0' || colon[1] > '9')
		return false;
	errno = 0;
	value = strtol(colon + 1, &end, 10);
	if (errno != 0 || *end != '\0' || value < 1 || value > 65535)
		return false;
	memcpy(host, begin, len);
	host[len] = '\0';
	*port = (int) value;
	return true;
}
