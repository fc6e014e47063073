/* What the shim's files share with each other and nobody else. */
#ifndef LIBPYCONTAINER_INTERNAL_H
#define LIBPYCONTAINER_INTERNAL_H

/* Put fds[i] at i, and make everything from nfds upwards close-on-exec; moved is scratch space. */
int lpc_place_fds(const int *fds, int nfds, int *moved);

/* Every signal at its default and none blocked. */
void lpc_reset_signals(void);

#endif
