//! Who waits for whom.
//!
//! Everything that a thread can wait for through a bridge runs on a loop's thread. So a circle of waits (a deadlock)
//! leads through loops' threads only. Each of them has a [`Node`], and an edge to another node while its thread waits
//! for a call there. Threads that run no loop need no node, and pay nothing.
//!
//! Invariants:
//! 1. A thread adds its own edge before it looks for a circle. So where two threads close a circle together, at least
//!    one of them sees it.
//! 2. The edges of one thread form a stack: a signal handler may wait while its thread waits.

use crate::sync::{Arc, Mutex, lock};

#[derive(Debug, Default)]
pub struct Node {
    waits_for: Mutex<Vec<Arc<Node>>>,
}

/// The wait would have closed a circle.
#[derive(Debug, Eq, PartialEq)]
pub struct Circle;

/// An edge, taken back when it is dropped.
#[derive(Debug)]
pub struct Edge<'a>(&'a Node);

impl Drop for Edge<'_> {
    fn drop(&mut self) {
        lock(&self.0.waits_for).pop();
    }
}

impl Node {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Whether this node's thread waits for a call.
    pub fn is_waiting(&self) -> bool {
        !lock(&self.waits_for).is_empty()
    }

    /// Adds the edge from this node's thread (the calling one) to `other`, unless that closes a circle.
    pub fn wait_for<'a>(self: &'a Arc<Self>, other: &Arc<Self>) -> Result<Edge<'a>, Circle> {
        lock(&self.waits_for).push(Arc::clone(other));
        let edge = Edge(self);
        if other.leads_to(self) { Err(Circle) } else { Ok(edge) }
    }

    /// Whether this node's thread waits for the thread of `goal`, directly or through others; true for `goal` itself.
    pub fn leads_to(self: &Arc<Self>, goal: &Arc<Self>) -> bool {
        let mut seen: Vec<Arc<Self>> = Vec::new();
        let mut open = vec![Arc::clone(self)];
        while let Some(node) = open.pop() {
            if Arc::ptr_eq(&node, goal) {
                return true;
            }
            if seen.iter().any(|known| Arc::ptr_eq(known, &node)) {
                continue;
            }
            open.extend(lock(&node.waits_for).iter().cloned());
            seen.push(node);
        }
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_oneself_is_a_circle() {
        let node = Node::new();
        assert!(node.wait_for(&node).is_err());
        assert!(!node.is_waiting());
    }

    #[test]
    fn a_long_way_round_is_a_circle_and_a_dropped_edge_is_not() {
        let nodes: Vec<_> = (0..4).map(|_| Node::new()).collect();
        let edges: Vec<_> = (0..3).map(|i| nodes[i].wait_for(&nodes[i + 1])).collect();
        assert!(edges.iter().all(Result::is_ok));
        assert!(nodes[3].wait_for(&nodes[0]).is_err());
        drop(edges);
        assert!(nodes[3].wait_for(&nodes[0]).is_ok());
    }

    #[test]
    fn a_thread_may_wait_again_while_it_waits() {
        let (a, b, c) = (Node::new(), Node::new(), Node::new());
        let first = a.wait_for(&b);
        let second = a.wait_for(&c);
        assert!(first.is_ok() && second.is_ok());
        assert!(c.wait_for(&a).is_err());
        drop(second);
        assert!(c.wait_for(&a).is_ok());
    }
}
