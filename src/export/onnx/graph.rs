//! Builds a graph node by node. A value has the name of the node that makes it.

use super::proto::{AttributeProto, FLOAT, GraphProto, INT64, NodeProto, TensorProto};
use candle_core::{Result, Tensor};

/// A graph that grows.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Graph {
    /// Adds a node and returns the name of its value.
    pub(super) fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute,
        });
        name.to_owned()
    }

    /// Adds weights.
    pub(super) fn weights(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        self.constants.push(TensorProto {
            dims: sizes(tensor.dims()),
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
        Ok(())
    }

    /// Adds whole numbers `[n]` and returns their name.
    pub(super) fn integers(&mut self, name: String, values: &[i64]) -> String {
        self.constants.push(TensorProto {
            dims: sizes(&[values.len()]),
            data_type: INT64,
            name: name.clone(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
        name
    }

    /// Takes the entries with these indices along an axis.
    pub(super) fn gather(&mut self, name: &str, x: &str, axis: i64, indices: &[usize]) -> String {
        let indices = self.integers(format!("{name}.indices"), &sizes(indices));
        self.node("Gather", name, &[x, &indices], vec![AttributeProto::int("axis", axis)])
    }

    /// Takes every `stride`-th pixel of the first `width` channels of x `[n, c, h, w]`.
    pub(super) fn slice(&mut self, name: &str, x: &str, width: usize, stride: usize) -> String {
        let mut part = |part: &str, values| self.integers(format!("{name}.{part}"), values);
        let stride = to_i64(stride);
        let inputs = [
            x.to_owned(),
            part("starts", &[0, 0, 0]),
            part("ends", &[to_i64(width), i64::MAX, i64::MAX]),
            part("axes", &[1, 2, 3]),
            part("steps", &[1, stride, stride]),
        ];
        self.node("Slice", name, &inputs.each_ref().map(String::as_str), vec![])
    }

    /// Adds `more` channels of zeros behind those of x `[n, c, h, w]`.
    pub(super) fn pad_channels(&mut self, name: &str, x: &str, more: usize) -> String {
        let pads = self.integers(format!("{name}.pads"), &[0, 0, 0, 0, 0, to_i64(more), 0, 0]);
        self.node("Pad", name, &[x, &pads], vec![])
    }

    /// The graph, with all but its inputs and outputs.
    pub(super) fn finish(self, name: &str) -> GraphProto {
        let name = name.to_owned();
        GraphProto { node: self.nodes, name, initializer: self.constants, ..GraphProto::default() }
    }
}

/// A number of channels or pixels, all of which are far below the limit.
pub(super) fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn sizes(dims: &[usize]) -> Vec<i64> {
    dims.iter().map(|&n| to_i64(n)).collect()
}
