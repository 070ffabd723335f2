//! Checks whether an architecture from a file can be built.

use super::{Activation, ArchSpec, BlockKind, BlockSpec, Head, SqueezeFunctions};
use crate::document::nearest;
use serde_json::Value;

/// More would be a mistake, and would not fit any memory.
const MOST_CHANNELS: usize = 1 << 16;
const MOST_PIXELS: usize = 1 << 12;
const LARGEST_STRIDE: usize = 8;

impl ArchSpec {
    /// Reads JSON as [`ArchSpec::to_json`] writes it. Unknown keys and networks that cannot be built are
    /// refused.
    ///
    /// # Errors
    /// The first problem, with its place: "blocks[2].kernal: there is no such key".
    pub fn from_json(text: &str) -> Result<Self, String> {
        let wrong = |error| format!("is not an architecture: {error}");
        let arch: Self = serde_json::from_str(text).map_err(wrong)?;
        let given = serde_json::from_str(text).map_err(wrong)?;
        let known = serde_json::to_value(&arch).map_err(wrong)?;
        refuse_unknown_keys(&given, &known, "")?;
        arch.check()?;
        Ok(arch)
    }

    /// Refuses networks that cannot be built. [`super::SearchSpace::decide`] gives only valid ones.
    ///
    /// # Errors
    /// The first problem, with its place: "block 2.1: its kernel is 7, not 3 or 5".
    pub fn check(&self) -> Result<(), String> {
        within("resolution", self.resolution, MOST_PIXELS)?;
        within("image_channels", self.image_channels, MOST_CHANNELS)?;
        within("classes", self.classes, MOST_CHANNELS)?;
        within("the stem's kernel", self.stem.kernel, self.resolution)?;
        within("the stem's stride", self.stem.stride, LARGEST_STRIDE)?;
        within("the stem's width", self.stem.width, MOST_CHANNELS)?;
        let mut input = self.stem.width;
        for block in &self.blocks {
            block.check(input).map_err(|what| format!("block {}: {what}", block.label))?;
            input = block.width;
        }
        let (mid, width) = match self.head {
            Head::Conv { width, .. } => (width, width),
            Head::IrPool { mid, width, .. } => (mid, width),
        };
        within("the head's hidden width", mid, MOST_CHANNELS)?;
        if let Head::IrPool { squeeze: Some(squeeze), .. } = self.head {
            within("the head's squeeze", squeeze.width, MOST_CHANNELS)?;
            squeeze.functions.check()?;
        }
        within("the head's width", width, MOST_CHANNELS)
    }
}

impl SqueezeFunctions {
    fn check(self) -> Result<(), String> {
        match self.gate {
            Activation::Hsigmoid | Activation::Sigmoid => Ok(()),
            other => Err(format!("its gate is {other}, not hsigmoid or sigmoid")),
        }
    }
}

impl BlockSpec {
    /// Checks a block with `input` input channels.
    fn check(&self, input: usize) -> Result<(), String> {
        within("its stride", self.stride, LARGEST_STRIDE)?;
        within("its width", self.width, MOST_CHANNELS)?;
        match self.kind {
            BlockKind::MbConv {
                kernel,
                mid,
                expand,
                squeeze,
                residual,
                groups,
                squeeze_functions: functions,
                ..
            } => {
                if !matches!(kernel, 3 | 5) {
                    return Err(format!("its kernel is {kernel}, not 3 or 5"));
                }
                within("mid", mid, MOST_CHANNELS)?;
                within("squeeze", squeeze.unwrap_or(1), MOST_CHANNELS)?;
                within("its groups", groups, MOST_CHANNELS)?;
                for (what, channels) in [("input", input), ("hidden", mid), ("output", self.width)]
                {
                    if channels % groups != 0 {
                        return Err(format!("{channels} {what} channels are not {groups} groups"));
                    }
                }
                functions.check()?;
                if !expand && mid != input {
                    return Err(format!(
                        "it has no expansion, but {mid} hidden channels for {input} input channels"
                    ));
                }
                if residual && (self.stride != 1 || self.width != input) {
                    return Err(format!(
                        "it adds {input} input channels to {} at stride {}",
                        self.width, self.stride
                    ));
                }
            }
            BlockKind::Identity if self.stride != 1 || self.width > input => {
                return Err(format!(
                    "an identity cannot turn {input} channels into {} at stride {}",
                    self.width, self.stride
                ));
            }
            BlockKind::Identity | BlockKind::Projection | BlockKind::Residual => {}
        }
        Ok(())
    }
}

/// Refuses keys of `given` that are not in `known`, which was parsed from it. Members of a list count
/// from 1.
fn refuse_unknown_keys(given: &Value, known: &Value, path: &str) -> Result<(), String> {
    if let (Value::Object(given), Value::Object(known)) = (given, known) {
        for (key, value) in given {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let Some(known_value) = known.get(key) else {
                let hint = nearest(key, known.keys().map(String::as_str));
                let hint =
                    hint.map_or(String::new(), |name| format!(" (did you mean \"{name}\"?)"));
                return Err(format!("{at}: there is no such key{hint}"));
            };
            refuse_unknown_keys(value, known_value, &at)?;
        }
    }
    if let (Value::Array(given), Value::Array(known)) = (given, known) {
        for (i, (given, known)) in given.iter().zip(known).enumerate() {
            refuse_unknown_keys(given, known, &format!("{path}[{}]", i + 1))?;
        }
    }
    Ok(())
}

fn within(what: &str, value: usize, most: usize) -> Result<(), String> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{what} is {value}, not 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{Activation, ConvSpec};

    fn arch(kind: BlockKind, stride: usize, width: usize) -> ArchSpec {
        let activation = Activation::Relu;
        ArchSpec {
            resolution: 8,
            image_channels: 3,
            classes: 10,
            stem: ConvSpec { kernel: 3, stride: 1, width: 16, activation },
            blocks: vec![BlockSpec { label: "1.1".to_owned(), stride, width, kind }],
            head: Head::Conv { width: 32, activation },
        }
    }

    fn mbconv(kernel: usize, mid: usize, expand: bool, residual: bool) -> BlockKind {
        let activation = Activation::Relu;
        BlockKind::MbConv {
            kernel,
            activation,
            mid,
            expand,
            squeeze: Some(4),
            residual,
            groups: 1,
            squeeze_functions: SqueezeFunctions::default(),
        }
    }

    #[test]
    fn impossible_blocks_are_refused_by_name() {
        let valid = arch(mbconv(3, 24, true, true), 1, 16);
        assert_eq!(valid.check(), Ok(()));
        let wrong = [
            (ArchSpec { classes: 0, ..valid.clone() }, "classes is 0"),
            (ArchSpec { resolution: 0, ..valid.clone() }, "resolution is 0"),
            (arch(mbconv(7, 24, true, false), 1, 16), "block 1.1: its kernel is 7"),
            (arch(mbconv(3, 0, true, false), 1, 16), "block 1.1: mid is 0"),
            (arch(mbconv(3, 24, true, false), 0, 16), "block 1.1: its stride is 0"),
            (arch(mbconv(3, 24, true, false), 1, 1 << 50), "block 1.1: its width is"),
            (arch(mbconv(3, 24, false, false), 1, 16), "block 1.1: it has no expansion"),
            (arch(mbconv(3, 24, true, true), 1, 12), "block 1.1: it adds 16 input channels to 12"),
            (arch(BlockKind::Identity, 2, 16), "block 1.1: an identity"),
            (arch(BlockKind::Identity, 1, 20), "block 1.1: an identity"),
        ];
        for (arch, beginning) in wrong {
            let problem = arch.check().unwrap_err();
            assert!(problem.starts_with(beginning), "{problem}");
        }
        assert_eq!(arch(BlockKind::Identity, 1, 12).check(), Ok(()));
    }
}
