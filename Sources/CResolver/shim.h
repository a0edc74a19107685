// The C library's resolver: records of DNS.
#pragma once
#include <netinet/in.h>
#include <arpa/nameser.h>
#include <resolv.h>

// A function of the header has the structure's own name.
typedef struct __res_state cresolver_state;

// The header gives these functions other names by macros, which Swift does not see.
static inline int cresolver_init(cresolver_state *state) { return res_ninit(state); }
static inline void cresolver_close(cresolver_state *state) { res_nclose(state); }
static inline int cresolver_search(
    cresolver_state *state, const char *name, int type, unsigned char *answer, int capacity) {
  return res_nsearch(state, name, ns_c_in, type, answer, capacity);
}

// The first name server; nil if the system names none.
static inline const struct sockaddr *cresolver_server(const cresolver_state *state) {
  if (state->nscount < 1) return NULL;
  if (state->nsaddr_list[0].sin_family == AF_INET)
    return (const struct sockaddr *)&state->nsaddr_list[0];
  return (const struct sockaddr *)state->_u._ext.nsaddrs[0];
}
