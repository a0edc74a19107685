// nghttp2: HTTP/2 frames and HPACK, no I/O.
#pragma once
#include <nghttp2/nghttp2.h>
