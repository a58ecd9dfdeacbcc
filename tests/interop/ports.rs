//! The ports that peers are told to listen on.

use std::collections::HashSet;
use std::thread;

use crate::peers::free_port;
use crate::peers::ports::{all_are_kernels, kernels_range};

#[test]
fn no_port_is_handed_out_twice_nor_one_that_the_kernel_may_give_to_another() {
    let kernels = kernels_range();
    let threads: Vec<_> = (0..8)
        .map(|_| thread::spawn(|| (0..200).map(|_| free_port()).collect::<Vec<_>>()))
        .collect();
    let ports: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert!(all_are_kernels() || ports.iter().all(|port| !kernels.contains(port)));
    let n_ports = ports.len();
    let different: HashSet<_> = ports.into_iter().collect();
    assert_eq!(different.len(), n_ports);
}
