// What an exported function returns where something can be wrong; library.py has the same table.
#ifndef GRU_ERRORS_H
#define GRU_ERRORS_H

enum gru_error {
    GRU_OK = 0,
    GRU_BAD_SIZE = 1,   // a size that the function does not take
    GRU_NOT_FINITE = 2, // an input is NaN or infinite
};

#endif
