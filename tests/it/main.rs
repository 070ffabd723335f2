//! The tests that see the program from outside, one module per room.

mod data;
