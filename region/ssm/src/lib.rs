//! The SSM service: public parameters.
