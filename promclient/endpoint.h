/*
 * Where the queries go and with which credentials: a prom_config that was checked, and its translation into libcurl's
 * options. Used by client.c alone.
 */
#ifndef HALDANE_PROMCLIENT_ENDPOINT_H
#define HALDANE_PROMCLIENT_ENDPOINT_H

#include "promclient/client.h"

#include <curl/curl.h>

struct endpoint {
    char *server;    /* the configured URL without a slash at its end; what error texts name */
    char *query_url; /* what is requested; its host is server_name if there is one */
    char *username, *password_file, *bearer_token_file;
    char *ca_file, *cert_file, *key_file;
    struct curl_slist *headers;
    struct curl_slist *connect_to; /* with server_name: the host that is really connected to */
};

/* A batch's passwords, wiped when the batch ends. */
struct secrets {
    char *password, *bearer_token; /* NULL if not configured */
};

bool endpoint_init(struct endpoint *endpoint, const struct prom_config *config, struct error *err);
void endpoint_free(struct endpoint *endpoint);

/* Reads the files. ERROR_NO_INPUT if one cannot be read, ERROR_DATA if it holds no usable secret. */
bool secrets_read(const struct endpoint *endpoint, struct secrets *secrets, struct error *err);
void secrets_wipe(struct secrets *secrets);

/* Sets all options of a handle that are the same for every query. */
void endpoint_prepare(const struct endpoint *endpoint, CURL *easy);
void endpoint_authorize(const struct endpoint *endpoint, const struct secrets *secrets, CURL *easy);

#endif
