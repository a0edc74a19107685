// http-parser: HTTP/1.1 messages.
#pragma once
#include <http_parser.h>
