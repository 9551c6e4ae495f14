#include "postgres.h"
#include "replication/image_internal.h"
void image_replace(ImageSource *source) { elog(ERROR, "not yet"); }
