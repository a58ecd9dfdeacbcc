//! Relabel rules over labels.
//!
//! Owns: the rule actions and their validation.
//! Never: does I/O or knows what the labels are for.
//! Tested by: a case per action beside the code.
