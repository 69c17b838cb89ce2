// A filter of second order over samples, for loudness; see gru_audio/signal/loudness.py.
//
//     y[t] = b0 x[t] + b1 x[t - 1] + b2 x[t - 2] - a1 y[t - 1] - a2 y[t - 2]          from silence
#include "../vectors.h"

// In place, n samples; coefficients (b0, b1, b2, a1, a2). What is yet to come of earlier samples is in two numbers.
GRU_API void gru_second_order(const double *restrict coefficients, double *restrict samples, int64_t n) {
    const double b0 = coefficients[0], b1 = coefficients[1], b2 = coefficients[2];
    const double a1 = coefficients[3], a2 = coefficients[4];
    double next = 0.0, after = 0.0;
    for (int64_t t = 0; t < n; t++) {
        const double x = samples[t], y = b0 * x + next;
        next = b1 * x - a1 * y + after;
        after = b2 * x - a2 * y;
        samples[t] = y;
    }
}
