// libxcrypt: password hashes.
#pragma once
#include <crypt.h>

// The working memory of one hash, which is too large a structure for Swift to import.
static inline int ccrypt_memory_size(void) { return (int)sizeof(struct crypt_data); }
