//! Who waits for whom.
//!
//! Everything that a thread can wait for through a bridge runs on a loop's thread. So a circle of waits (a deadlock)
//! leads through loops' threads only. Each of them has a [`Node`], and an edge to another node while its thread waits
//! for a call there. Threads that run no loop need no node, and pay nothing.
//!
//! A loop's tasks, and the worker threads that it sends, wait on other loops too, and their own loop goes on meanwhile.
//! Such an edge only says what may be held up: by then the loop may have nothing to do with the wait that leads to it.
//! So placement follows it, which loses nothing by another choice, and a circle through it is no error.
//!
//! Invariants:
//! 1. A thread adds its own edge before it looks for a circle. So where two threads close a circle together, at least
//!    one of them sees it.
//! 2. The edges of one thread form a stack: a signal handler may wait while its thread waits.

use crate::sync::{Arc, Mutex, lock};

#[derive(Debug, Default)]
pub struct Node {
    waits_for: Mutex<Vec<Arc<Node>>>,
    /// What its tasks and workers wait for, and how many of them.
    awaits: Mutex<Vec<(Arc<Node>, usize)>>,
}

/// The wait would have closed a circle.
#[derive(Debug, Eq, PartialEq)]
pub struct Circle;

/// An edge, taken back when it is dropped.
#[derive(Debug)]
pub struct Edge<'a>(&'a Arc<Node>);

impl Edge<'_> {
    /// Whether it is part of a circle by now. For the last one of its thread.
    pub fn closes_circle(&self) -> bool {
        let other = lock(&self.0.waits_for).last().cloned();
        other.is_some_and(|other| other.reaches(self.0, |_| false))
    }
}

impl Drop for Edge<'_> {
    fn drop(&mut self) {
        lock(&self.0.waits_for).pop();
    }
}

/// An edge of a task or of a worker, taken back when it is dropped.
#[derive(Debug)]
pub struct Awaiting {
    node: Arc<Node>,
    other: Arc<Node>,
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        let mut awaits = lock(&self.node.awaits);
        let Some(found) = awaits.iter().rposition(|(other, _)| Arc::ptr_eq(other, &self.other)) else { return };
        awaits[found].1 -= 1;
        if awaits[found].1 == 0 {
            awaits.swap_remove(found);
        }
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
        let edge = self.begin_wait(other);
        if edge.closes_circle() { Err(Circle) } else { Ok(edge) }
    }

    /// Adds that edge, whatever it closes: for one who may open a circle yet.
    pub fn begin_wait<'a>(self: &'a Arc<Self>, other: &Arc<Self>) -> Edge<'a> {
        lock(&self.waits_for).push(Arc::clone(other));
        Edge(self)
    }

    /// What this node's thread waits for has gone from one node to another. For any thread.
    pub fn redirect(&self, from: &Arc<Self>, to: &Arc<Self>) {
        if let Some(known) = lock(&self.waits_for).iter_mut().rfind(|known| Arc::ptr_eq(known, from)) {
            *known = Arc::clone(to);
        }
    }

    /// Adds the edge from this node's loop, which goes on, to `other`.
    pub fn awaits(self: &Arc<Self>, other: &Arc<Self>) -> Awaiting {
        let mut awaits = lock(&self.awaits);
        match awaits.iter_mut().rev().find(|(known, _)| Arc::ptr_eq(known, other)) {
            Some((_, count)) => *count += 1,
            None => awaits.push((Arc::clone(other), 1)),
        }
        Awaiting { node: Arc::clone(self), other: Arc::clone(other) }
    }

    /// Whether this node's thread waits, and what it waits for may wait in turn for the thread of `goal`, directly or
    /// through others; true for `goal` itself.
    pub fn leads_to(self: &Arc<Self>, goal: &Arc<Self>) -> bool {
        // What awaits on its own loop does not hold up its thread.
        self.reaches(goal, |node| !Arc::ptr_eq(node, self))
    }

    fn reaches(self: &Arc<Self>, goal: &Arc<Self>, through_awaits: impl Fn(&Arc<Self>) -> bool) -> bool {
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
            if through_awaits(&node) {
                open.extend(lock(&node.awaits).iter().map(|(other, _)| Arc::clone(other)));
            }
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
    fn what_awaits_is_followed_but_not_from_where_the_way_begins() {
        let (a, b, c) = (Node::new(), Node::new(), Node::new());
        let edge = a.wait_for(&b);
        let awaiting = b.awaits(&c);
        assert!(a.leads_to(&c) && !b.leads_to(&c));
        drop(edge);
        assert!(!a.leads_to(&c));
        drop(awaiting);
    }

    #[test]
    fn a_circle_through_what_awaits_is_no_error() {
        let (a, b) = (Node::new(), Node::new());
        let _awaiting = b.awaits(&a);
        assert!(a.wait_for(&b).is_ok());
    }

    #[test]
    fn what_awaits_goes_one_by_one() {
        let (a, b, c) = (Node::new(), Node::new(), Node::new());
        let _edge = a.wait_for(&b);
        let (first, second) = (b.awaits(&c), b.awaits(&c));
        drop(first);
        assert!(a.leads_to(&c));
        drop(second);
        assert!(!a.leads_to(&c));
    }

    #[test]
    fn a_circle_is_open_when_what_is_waited_for_is_elsewhere() {
        let (a, b, c) = (Node::new(), Node::new(), Node::new());
        let _edge = a.wait_for(&b);
        let closing = b.begin_wait(&a);
        assert!(closing.closes_circle());
        a.redirect(&c, &b);
        assert!(closing.closes_circle());
        a.redirect(&b, &c);
        assert!(!closing.closes_circle() && a.leads_to(&c));
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
