//! One file a subcommand.
//!
//! Owns: arguments and what is printed on the terminal.
//! Never: does the work itself.
//! Tested by: `tests/appliance`.
