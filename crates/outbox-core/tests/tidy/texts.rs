//! Texts that agree with each other and with the code.
