// OpenSSL: digests, keys and signatures.
#pragma once
#include <openssl/bn.h>
#include <openssl/decoder.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

// A macro that Swift cannot read.
static const int copenssl_public_key = EVP_PKEY_PUBLIC_KEY;
