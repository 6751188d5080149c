/*
 * libcurl takes the URL apart, so that what is checked is what is connected to. server_name is done by asking for a URL
 * with that name and redirecting the connection (CURLOPT_CONNECT_TO): SNI and the certificate's check then use it,
 * while the Host header keeps the configured host.
 */
#include "promclient/endpoint.h"

#include "base/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SECRET_MAX = 65536 };

static void append(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    assert(longer); /* out of memory, which base/memory.h does not survive either */
    *list = longer;
}

/* ---- the URL ---- */

static char *part_of(CURLU *url, CURLUPart part, unsigned flags)
{
    char *text = NULL;
    if (curl_url_get(url, part, &text, flags) != CURLUE_OK)
        return NULL;
    char *copy = mem_strdup(text);
    curl_free(text);
    return copy;
}

static bool has_part(CURLU *url, CURLUPart part)
{
    char *text = part_of(url, part, 0);
    bool has = text != NULL;
    free(text);
    return has;
}

static bool check_url(CURLU *url, const struct prom_config *config, struct error *err)
{
    /* The text itself is not shown before it is known to hold no password. */
    if (curl_url_set(url, CURLUPART_URL, config->url, 0) != CURLUE_OK)
        return error_set(err, ERROR_DATA, "the URL of Prometheus is not a URL; write it as http://HOST:PORT/PREFIX");
    if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        return error_set(err, ERROR_DATA,
                         "the URL of Prometheus holds a user name or password; use basic_auth with password_file");
    if (has_part(url, CURLUPART_QUERY) || has_part(url, CURLUPART_FRAGMENT))
        return error_set(err, ERROR_DATA, "%s: the URL of Prometheus must end before any `?` or `#`", config->url);
    char *scheme = part_of(url, CURLUPART_SCHEME, 0);
    bool https = scheme && strcmp(scheme, "https") == 0, http = scheme && strcmp(scheme, "http") == 0;
    free(scheme);
    if (!http && !https)
        return error_set(err, ERROR_DATA, "%s: the URL of Prometheus must begin with http:// or https://", config->url);
    if (http && (config->ca_file || config->cert_file || config->key_file || config->server_name))
        return error_set(err, ERROR_DATA, "%s: tls settings need a URL that begins with https://", config->url);
    return true;
}

static char *without_slash(const char *text)
{
    size_t length = strlen(text);
    while (length && text[length - 1] == '/')
        length--;
    return mem_strndup(text, length);
}

/* A numeric IPv6 address stands in brackets both in a URL and for CURLOPT_CONNECT_TO. */
static bool rename_host(struct endpoint *endpoint, CURLU *url, const char *server_name, struct error *err)
{
    char *host = part_of(url, CURLUPART_HOST, 0), *port = part_of(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    char *given_port = part_of(url, CURLUPART_PORT, 0);
    bool ok = curl_url_set(url, CURLUPART_HOST, server_name, 0) == CURLUE_OK;
    if (ok) {
        char *line = mem_printf("%s:%s:%s:%s", server_name, port, host, port);
        append(&endpoint->connect_to, line);
        free(line);
        line = mem_printf("Host: %s%s%s", host, given_port ? ":" : "", given_port ? given_port : "");
        append(&endpoint->headers, line);
        free(line);
    } else {
        error_set(err, ERROR_DATA, "tls server_name `%s` is not a host name", server_name);
    }
    free(host);
    free(port);
    free(given_port);
    return ok;
}

static bool take_url(struct endpoint *endpoint, const struct prom_config *config, CURLU *url, struct error *err)
{
    if (!check_url(url, config, err))
        return false;
    endpoint->server = without_slash(config->url);
    if (config->server_name && !rename_host(endpoint, url, config->server_name, err))
        return false;
    char *whole = part_of(url, CURLUPART_URL, 0);
    char *base = without_slash(whole ? whole : config->url);
    endpoint->query_url = mem_printf("%s/api/v1/query", base);
    free(base);
    free(whole);
    return true;
}

/* ---- headers and credentials ---- */

static bool is_token(const char *name)
{
    size_t length = strspn(name, "!#$%&'*+-.^_`|~0123456789"
                                 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return length > 0 && name[length] == '\0';
}

static bool take_header(struct endpoint *endpoint, const struct prom_config *config, const struct prom_header *header,
                        struct error *err)
{
    static const char *const ours[] = {"Host", "Content-Type", "Content-Length", "Transfer-Encoding", "Connection"};
    if (!is_token(header->name))
        return error_set(err, ERROR_DATA, "`%s` is not the name of an HTTP header", header->name);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (strcasecmp(header->name, ours[i]) == 0)
            return error_set(err, ERROR_DATA, "the header %s cannot be set; remove it", header->name);
    for (const char *c = header->value; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return error_set(err, ERROR_DATA, "the value of the header %s holds a control character", header->name);
    if (strcasecmp(header->name, "Authorization") == 0 && (config->username || config->bearer_token_file))
        return error_set(err, ERROR_DATA,
                         "the header Authorization and basic_auth or bearer_token_file exclude each "
                         "other; remove one");
    /* libcurl takes "Name:" as the wish to send no such header; "Name;" sends it empty. */
    char *line = *header->value ? mem_printf("%s: %s", header->name, header->value) : mem_printf("%s;", header->name);
    append(&endpoint->headers, line);
    free(line);
    return true;
}

static bool check_credentials(const struct prom_config *config, struct error *err)
{
    if (!config->username != !config->password_file)
        return error_set(err, ERROR_DATA, "basic_auth needs both username and password_file");
    if (config->username && strchr(config->username, ':'))
        return error_set(err, ERROR_DATA, "a username for basic_auth cannot hold a colon");
    if (config->username && config->bearer_token_file)
        return error_set(err, ERROR_DATA, "basic_auth and bearer_token_file exclude each other; remove one");
    if (!config->cert_file != !config->key_file)
        return error_set(err, ERROR_DATA, "tls needs both cert_file and key_file");
    return true;
}

static bool take_config(struct endpoint *endpoint, const struct prom_config *config, CURLU *url, struct error *err)
{
    if (!check_credentials(config, err) || !take_url(endpoint, config, url, err))
        return false;
    for (size_t i = 0; i < config->header_count; i++)
        if (!take_header(endpoint, config, &config->headers[i], err))
            return false;
    /* A large form must not wait for a "100 Continue" that many proxies never send. */
    append(&endpoint->headers, "Expect:");
    endpoint->username = mem_strdup(config->username);
    endpoint->password_file = mem_strdup(config->password_file);
    endpoint->bearer_token_file = mem_strdup(config->bearer_token_file);
    endpoint->ca_file = mem_strdup(config->ca_file);
    endpoint->cert_file = mem_strdup(config->cert_file);
    endpoint->key_file = mem_strdup(config->key_file);
    return true;
}

bool endpoint_init(struct endpoint *endpoint, const struct prom_config *config, struct error *err)
{
    *endpoint = (struct endpoint){0};
    if (!config->url || !*config->url)
        return error_set(err, ERROR_DATA, "the URL of Prometheus is missing");
    CURLU *url = curl_url();
    assert(url);
    bool ok = take_config(endpoint, config, url, err);
    curl_url_cleanup(url);
    if (!ok)
        endpoint_free(endpoint);
    return ok;
}

void endpoint_free(struct endpoint *endpoint)
{
    free(endpoint->server);
    free(endpoint->query_url);
    free(endpoint->username);
    free(endpoint->password_file);
    free(endpoint->bearer_token_file);
    free(endpoint->ca_file);
    free(endpoint->cert_file);
    free(endpoint->key_file);
    curl_slist_free_all(endpoint->headers);
    curl_slist_free_all(endpoint->connect_to);
    *endpoint = (struct endpoint){0};
}

/* ---- secrets ---- */

static bool check_secret(const char *path, const char *text, size_t length, struct error *err)
{
    if (length == SECRET_MAX)
        return error_set(err, ERROR_DATA, "%s: too long for a secret", path);
    if (strlen(text) != length || strpbrk(text, "\r\n"))
        return error_set(err, ERROR_DATA, "%s: a secret is one line of text; this file holds more", path);
    if (length == 0)
        return error_set(err, ERROR_DATA, "%s: the file is empty; it must hold the secret", path);
    return true;
}

static char *read_secret(const char *path, struct error *err)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        error_set(err, ERROR_NO_INPUT, "%s: cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    setvbuf(file, NULL, _IONBF, 0); /* no second copy of the secret in a buffer */
    char *text = mem_alloc(SECRET_MAX + 1, 1);
    size_t length = fread(text, 1, SECRET_MAX, file);
    bool ok = !ferror(file) || error_set(err, ERROR_NO_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    fclose(file);
    if (length && text[length - 1] == '\n')
        text[--length] = '\0';
    if (length && text[length - 1] == '\r')
        text[--length] = '\0';
    if (ok && check_secret(path, text, length, err))
        return text;
    explicit_bzero(text, SECRET_MAX);
    free(text);
    return NULL;
}

bool secrets_read(const struct endpoint *endpoint, struct secrets *secrets, struct error *err)
{
    *secrets = (struct secrets){0};
    if (endpoint->password_file && !(secrets->password = read_secret(endpoint->password_file, err)))
        return false;
    if (endpoint->bearer_token_file && !(secrets->bearer_token = read_secret(endpoint->bearer_token_file, err)))
        return false;
    return true;
}

static void wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void secrets_wipe(struct secrets *secrets)
{
    wipe(secrets->password);
    wipe(secrets->bearer_token);
    *secrets = (struct secrets){0};
}

/* ---- libcurl's options ---- */

void endpoint_prepare(const struct endpoint *endpoint, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_URL, endpoint->query_url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "haldane");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, endpoint->headers);
    curl_easy_setopt(easy, CURLOPT_CONNECT_TO, endpoint->connect_to);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    /*
     * With HTTP/2 the queries of a batch share one connection instead of opening one each. TLS says at once whether it
     * is HTTP/2; without TLS the first answer would be waited for.
     */
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, strncmp(endpoint->query_url, "https:", 6) == 0 ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (endpoint->ca_file) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, endpoint->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        /* A renewed file counts from the next connection on, not a day later. */
        curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
    }
    if (endpoint->cert_file) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, endpoint->cert_file);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, endpoint->key_file);
        /* An encrypted key fails, instead of asking for its passphrase on the terminal. */
        curl_easy_setopt(easy, CURLOPT_KEYPASSWD, "");
    }
}

void endpoint_authorize(const struct endpoint *endpoint, const struct secrets *secrets, CURL *easy)
{
    if (secrets->password) {
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
        curl_easy_setopt(easy, CURLOPT_USERNAME, endpoint->username);
        curl_easy_setopt(easy, CURLOPT_PASSWORD, secrets->password);
    } else if (secrets->bearer_token) {
        curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(easy, CURLOPT_XOAUTH2_BEARER, secrets->bearer_token);
    }
}
