// For the tests in C: memory that is given back at once, made-up numbers, and what is said of results.
#ifndef MADE_UP_H
#define MADE_UP_H

#include "../../gru_audio/native/engine.c"

#include <stdio.h>
#include <stdlib.h>

// Memory, numbers, results

enum { MOST_BUFFERS = 256 };
static void *buffers[MOST_BUFFERS];
static int n_buffers, n_wrong;

static void *take(size_t n_bytes) {
    if (n_buffers == MOST_BUFFERS)
        exit(2);
    return buffers[n_buffers++] = calloc(n_bytes ? n_bytes : 1, 1);
}

static void give_back_all(void) {
    while (n_buffers)
        free(buffers[--n_buffers]);
}

static float *zeros(int64_t n) {
    return take((size_t)n * sizeof(float));
}
static double *doubles(int64_t n) {
    return take((size_t)n * sizeof(double));
}
static int64_t *whole(int64_t n) {
    return take((size_t)n * sizeof(int64_t));
}

static uint64_t random_state = 1;

// 31 random bits. Source: Knuth's MMIX.
static int64_t random_bits(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)(random_state >> 33);
}
static float uniform(void) {
    return (float)(random_bits() >> 7) / 16777216.0f;
}
// About normal, of a deviation: the sum of uniform numbers, exact and so the same everywhere.
static float normal(float deviation) {
    float sum = -6.0f;
    for (int i = 0; i < 12; i++)
        sum += uniform();
    return deviation * sum;
}
static float *normals(int64_t n, float deviation) {
    float *numbers = zeros(n);
    for (int64_t i = 0; i < n; i++)
        numbers[i] = normal(deviation);
    return numbers;
}
static int64_t *random_codes(int64_t n, int64_t n_classes) {
    int64_t *codes = whole(n);
    for (int64_t i = 0; i < n; i++)
        codes[i] = random_bits() % n_classes;
    return codes;
}

// Of 2 pi part, by Taylor's series, so that no library of mathematics has a say in it.
static double cosine(double part) {
    const double x = 6.283185307179586 * (part - (double)(int64_t)(part + (part < 0 ? -0.5 : 0.5)));
    double term = 1.0, sum = 1.0;
    for (int i = 1; i < 16; i++)
        sum += term *= -x * x / (2 * i - 1) / (2 * i);
    return sum;
}
static double sine(double part) {
    return cosine(part - 0.25);
}

static void expect(const char *what, bool holds) {
    if (!holds) {
        printf("%s: WRONG\n", what);
        n_wrong++;
    }
}

// FNV-1a.
static void digest(const char *what, const void *bytes, size_t n_bytes) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
    printf("%s: %016llx\n", what, (unsigned long long)hash);
}
static void digest_floats(const char *what, const float *numbers, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        expect(what, numbers[i] - numbers[i] == 0.0f); // neither NaN nor infinite
    digest(what, numbers, (size_t)n * sizeof *numbers);
}

static double largest_difference(const float *a, const float *b, int64_t n) {
    double largest = 0.0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    return largest;
}

// Mu-law

static float *mu_law_edges(int64_t n_classes) {
    float *edges = zeros(n_classes - 1);
    for (int64_t i = 0; i < n_classes - 1; i++) { // any ascending numbers, finest about 0
        const float x = (float)(2 * i + 2 - n_classes) / (float)n_classes;
        edges[i] = x * x * x * 0.9f + x * 0.1f;
    }
    return edges;
}
static float *mu_law_expansion(int64_t n_classes) {
    float *edges = mu_law_edges(n_classes), *expansion = zeros(n_classes);
    for (int64_t i = 1; i < n_classes - 1; i++)
        expansion[i] = 0.5f * (edges[i - 1] + edges[i]);
    expansion[0] = -1.0f;
    expansion[n_classes - 1] = 1.0f;
    return expansion;
}

#endif
