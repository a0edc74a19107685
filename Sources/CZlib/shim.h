// zlib: gzip of gRPC messages.
#pragma once
#include <zlib.h>
