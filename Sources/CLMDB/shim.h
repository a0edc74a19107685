// LMDB: the copy-on-write B+tree under the store.
#pragma once
#include <lmdb.h>
