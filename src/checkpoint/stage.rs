//! The state of one stage of a run: named values and groups of named tensors.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// See the head of this file. Tensors are f32.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    pub(super) values: Map<String, Value>,
    pub(super) groups: Vec<Group>,
}

/// Named tensors, in order.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub name: String,
    pub tensors: Vec<(String, Tensor)>,
}

impl Stage {
    /// A state of this `value` under this key.
    ///
    /// # Errors
    /// As [`Stage::put`].
    pub fn with<T: Serialize + DeserializeOwned>(key: &str, value: &T) -> Result<Self> {
        let mut stage = Self::default();
        stage.put(key, value)?;
        Ok(stage)
    }

    /// Adds a value. Its numbers must be finite: JSON has no others.
    ///
    /// # Errors
    /// When it could not be read back.
    pub fn put<T: Serialize + DeserializeOwned>(&mut self, key: &str, value: &T) -> Result<()> {
        let value = serde_json::to_value(value)?;
        T::deserialize(&value).with_context(|| format!("value {key:?} cannot be read back"))?;
        self.values.insert(key.to_owned(), value);
        Ok(())
    }

    /// The value of this key.
    ///
    /// # Errors
    /// When there is none, or it is of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let value = self.values.get(key).with_context(|| format!("no value {key:?}"))?;
        serde_json::from_value(value.clone()).with_context(|| format!("value {key:?}"))
    }

    /// Adds a group of tensors. It shares their storage: do not change them in place afterwards, unless the
    /// state is written at once.
    pub fn put_tensors<'t>(
        &mut self,
        group: &str,
        tensors: impl IntoIterator<Item = (&'t str, &'t Tensor)>,
    ) {
        let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.clone()));
        self.groups.push(Group { name: group.to_owned(), tensors: tensors.collect() });
    }

    /// Removes all groups.
    pub fn forget_tensors(&mut self) {
        self.groups.clear();
    }

    /// The tensors of a group, in the order in which they were added.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn tensors(&self, group: &str) -> Result<&[(String, Tensor)]> {
        let found = self.groups.iter().find(|found| found.name == group);
        Ok(&found.with_context(|| format!("no tensors {group:?}"))?.tensors)
    }

    /// The tensors of a group, which must have these shapes.
    ///
    /// # Errors
    /// When the group is missing, or differs.
    pub fn tensors_like<'t>(
        &self,
        group: &str,
        like: impl ExactSizeIterator<Item = &'t Tensor>,
    ) -> Result<Vec<Tensor>> {
        let tensors = self.tensors(group)?;
        ensure!(tensors.len() == like.len(), "{} tensors in {group:?}", tensors.len());
        let pairs = tensors.iter().zip(like);
        let checked = pairs.map(|((name, tensor), like)| {
            ensure!(
                tensor.dims() == like.dims() && tensor.dtype() == DType::F32,
                "{group}/{name} has the shape {:?} instead of {:?}",
                tensor.dims(),
                like.dims()
            );
            Ok(tensor.clone())
        });
        checked.collect()
    }
}
