//! Students: small recognizers that see the input alone.

pub mod speech;
