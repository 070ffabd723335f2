//! The numbers a cost can be made of: integers for a decided network, reals for an expectation,
//! and reals that remember where they came from.

use std::cell::RefCell;
use std::rc::Rc;

/// What the cost formula needs of a number.
pub trait CostNumber: Clone {
    /// The number `n`, in the company of `self`.
    fn constant(&self, n: u64) -> Self;
    #[must_use]
    fn plus(&self, other: &Self) -> Self;
    #[must_use]
    fn times(&self, other: &Self) -> Self;
    /// `self · n`.
    #[must_use]
    fn scaled(&self, n: u64) -> Self {
        self.times(&self.constant(n))
    }
}

impl CostNumber for u64 {
    fn constant(&self, n: u64) -> Self {
        n
    }
    fn plus(&self, other: &Self) -> Self {
        self + other
    }
    fn times(&self, other: &Self) -> Self {
        self * other
    }
}

impl CostNumber for f64 {
    fn constant(&self, n: u64) -> Self {
        n as Self
    }
    fn plus(&self, other: &Self) -> Self {
        self + other
    }
    fn times(&self, other: &Self) -> Self {
        self * other
    }
}

/// A real number on a graph of sums and products, for derivatives.
#[derive(Clone)]
pub struct Traced {
    value: f64,
    node: usize,
    graph: Graph,
}

/// The graph that traced numbers grow.
#[derive(Clone, Default)]
pub struct Graph(Rc<RefCell<Vec<Node>>>);

/// Up to two parents, each with the derivative towards it.
type Node = [(usize, f64); 2];

/// A node is its own parent with derivative zero where it has none.
const NO_PARENT: (usize, f64) = (0, 0.0);

impl Graph {
    /// An independent number.
    #[must_use]
    pub fn leaf(&self, value: f64) -> Traced {
        self.push(value, [NO_PARENT; 2])
    }

    fn push(&self, value: f64, parents: Node) -> Traced {
        let mut nodes = self.0.borrow_mut();
        nodes.push(parents);
        Traced { value, node: nodes.len() - 1, graph: self.clone() }
    }

    /// Derivatives of Σ weight · number with respect to every node.
    #[must_use]
    pub fn derivatives(&self, of: &[(&Traced, f64)]) -> Derivatives {
        let nodes = self.0.borrow();
        let mut adjoints = vec![0.0; nodes.len()];
        for (number, weight) in of {
            adjoints[number.node] += weight;
        }
        for at in (0..nodes.len()).rev() {
            let adjoint = adjoints[at];
            for (parent, derivative) in nodes[at] {
                if derivative != 0.0 {
                    adjoints[parent] += adjoint * derivative;
                }
            }
        }
        Derivatives(adjoints)
    }
}

/// See [`Graph::derivatives`].
pub struct Derivatives(Vec<f64>);

impl Derivatives {
    #[must_use]
    pub fn to(&self, number: &Traced) -> f64 {
        self.0[number.node]
    }
}

impl Traced {
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }
}

impl CostNumber for Traced {
    fn constant(&self, n: u64) -> Self {
        self.graph.leaf(n as f64)
    }
    fn plus(&self, other: &Self) -> Self {
        let parents = [(self.node, 1.0), (other.node, 1.0)];
        self.graph.push(self.value + other.value, parents)
    }
    fn times(&self, other: &Self) -> Self {
        let parents = [(self.node, other.value), (other.node, self.value)];
        self.graph.push(self.value * other.value, parents)
    }
}
