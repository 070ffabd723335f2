//! The number types of the cost formula: `u64` for a decided network, `f64` for an expectation, and
//! [`Traced`] for an expectation with derivatives.

use std::cell::RefCell;
use std::rc::Rc;

/// The operations that the cost formula needs.
pub trait CostNumber: Clone {
    /// The constant `n`, on the graph of `self` where there is one.
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

/// A real number on a graph of sums and products, for reverse-mode derivatives.
#[derive(Clone)]
pub struct Traced {
    value: f64,
    node: usize,
    graph: Graph,
}

/// The graph of all sums and products of traced numbers.
#[derive(Clone, Default)]
pub struct Graph(Rc<RefCell<Vec<Node>>>);

/// Up to two parents, each with the derivative with respect to it.
type Node = [(usize, f64); 2];

/// Stands for a missing parent: its derivative is zero.
const NO_PARENT: (usize, f64) = (0, 0.0);

impl Graph {
    /// A new independent variable.
    #[must_use]
    pub fn leaf(&self, value: f64) -> Traced {
        self.push(value, [NO_PARENT; 2])
    }

    fn push(&self, value: f64, parents: Node) -> Traced {
        let mut nodes = self.0.borrow_mut();
        nodes.push(parents);
        Traced { value, node: nodes.len() - 1, graph: self.clone() }
    }

    /// The derivatives of Σ weight · number with respect to every node.
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

/// The derivatives with respect to every traced number, see [`Graph::derivatives`].
pub struct Derivatives(Vec<f64>);

impl Derivatives {
    /// The derivative with respect to `number`.
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
