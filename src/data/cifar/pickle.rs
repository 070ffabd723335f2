//! A small reader of the pickles in the Python version of CIFAR. It knows the few operations that
//! data needs, builds only plain values and calls nothing: names of functions are compared, not
//! looked up. Whatever else a pickle may hold is an error.

use std::collections::BTreeMap;
use std::ops::Range;

/// What a batch holds that is of use.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// Planes of all images, one after the other.
    pub pixels: &'a [u8],
    /// Every list of small whole numbers, by its name.
    lists: BTreeMap<String, Vec<u8>>,
}

impl Batch<'_> {
    pub(super) fn labels(&self, name: &str) -> Result<&[u8], String> {
        self.lists.get(name).map(Vec::as_slice).ok_or_else(|| format!("has no \"{name}\""))
    }
}

/// Reads one batch: a dictionary with a list per kind of label and the pixels as "data", a NumPy
/// array of bytes.
pub(super) fn read_batch(file: &[u8]) -> Result<Batch<'_>, String> {
    let Value::Dict(entries) = Machine::new(file).run()? else {
        return Err("is not a pickled dictionary".to_owned());
    };
    let (mut pixels, mut lists) = (None, BTreeMap::new());
    for (key, value) in entries {
        let Some(name) = key.text(file).and_then(|name| std::str::from_utf8(name).ok()) else {
            continue;
        };
        match value {
            Value::Array(bytes) if name == "data" => pixels = Some(&file[bytes]),
            Value::List(items) => {
                let numbers = items.iter().map(|item| match item {
                    Value::Int(number) => u8::try_from(*number).ok(),
                    _ => None,
                });
                if let Some(numbers) = numbers.collect() {
                    lists.insert(name.to_owned(), numbers);
                }
            }
            _ => {}
        }
    }
    Ok(Batch { pixels: pixels.ok_or("has no array \"data\"")?, lists })
}

/// A value on the stack. Texts and arrays are ranges of the file.
#[derive(Clone, Debug)]
enum Value {
    /// Where a group of values starts.
    Mark,
    Nothing,
    Int(i64),
    Text(Range<usize>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Name(Name),
    Dtype,
    /// The bytes of a NumPy array; empty until its state is set.
    Array(Range<usize>),
}

/// The functions and types that the pickles name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    Reconstruct,
    NdArray,
    Dtype,
    /// How Python 3 writes bytes in an old protocol.
    Encode,
}

impl Name {
    fn of(module: &[u8], name: &[u8]) -> Result<Self, String> {
        match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => {
                Ok(Self::Reconstruct)
            }
            (b"numpy", b"ndarray") => Ok(Self::NdArray),
            (b"numpy", b"dtype") => Ok(Self::Dtype),
            (b"_codecs", b"encode") => Ok(Self::Encode),
            _ => {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                Err(format!("names {}.{}, which CIFAR does not", text(module), text(name)))
            }
        }
    }
}

impl Value {
    fn text<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Text(range) => Some(&file[range.clone()]),
            _ => None,
        }
    }

    /// How many containers lie in one another, this one included.
    fn depth(&self) -> usize {
        match self {
            Self::List(items) | Self::Tuple(items) => 1 + depth(items),
            Self::Dict(entries) => {
                1 + entries
                    .iter()
                    .map(|(key, value)| key.depth().max(value.depth()))
                    .max()
                    .unwrap_or(0)
            }
            _ => 0,
        }
    }
}

fn depth(items: &[Value]) -> usize {
    items.iter().map(Value::depth).max().unwrap_or(0)
}

/// Refuses items that no further container may hold.
fn check_depth(items: &[Value]) -> Result<(), String> {
    let fits = depth(items) < MAX_DEPTH;
    fits.then_some(()).ok_or_else(|| "nests deeper than CIFAR does".to_owned())
}

struct Machine<'a> {
    file: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: BTreeMap<u32, Value>,
    /// How many so far.
    operations: usize,
}

/// Every operation makes one value at most, so this bounds the memory. CIFAR's largest pickle takes
/// about 500,000.
const MAX_OPERATIONS: usize = 1_000_000;
/// Containers in containers. CIFAR's are four deep.
const MAX_DEPTH: usize = 16;
const CUT: &str = "the pickle ends early";
const UNDERFLOW: &str = "the pickle uses a value that does not exist";

impl<'a> Machine<'a> {
    fn new(file: &'a [u8]) -> Self {
        Self { file, at: 0, stack: Vec::new(), memo: BTreeMap::new(), operations: 0 }
    }

    fn run(mut self) -> Result<Value, String> {
        if self.file.first() != Some(&0x80) {
            return Err("is not a pickle of protocol 2 or later".to_owned());
        }
        loop {
            let operation = self.bytes(1)?[0];
            if operation == b'.' {
                return self.pop();
            }
            self.operations += 1;
            if self.operations > MAX_OPERATIONS {
                return Err("has more values than CIFAR does".to_owned());
            }
            self.step(operation)?;
        }
    }

    fn step(&mut self, operation: u8) -> Result<(), String> {
        match operation {
            // Protocol and frame.
            0x80 => drop(self.bytes(1)?),
            0x95 => drop(self.bytes(8)?),
            b'(' => self.stack.push(Value::Mark),
            b'N' => self.stack.push(Value::Nothing),
            0x88 => self.stack.push(Value::Int(1)),
            0x89 => self.stack.push(Value::Int(0)),
            b'K' => self.int::<1>()?,
            b'M' => self.int::<2>()?,
            b'J' => self.int::<4>()?,
            b'U' | 0x8c | b'C' => self.text::<1>()?,
            b'T' | b'X' | b'B' => self.text::<4>()?,
            0x8d | 0x8e => self.text::<8>()?,
            b']' => self.stack.push(Value::List(Vec::new())),
            b'}' => self.stack.push(Value::Dict(Vec::new())),
            b')' => self.stack.push(Value::Tuple(Vec::new())),
            0x85..=0x87 => self.tuple(usize::from(operation - 0x84))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push_tuple(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(items)?;
            }
            b'q' => self.put::<1>()?,
            b'r' => self.put::<4>()?,
            0x94 => self.keep(self.memo.len() as u32)?,
            b'h' => self.get::<1>()?,
            b'j' => self.get::<4>()?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Name(Name::of(module, name)?));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (module.text(self.file), name.text(self.file));
                let name = Name::of(module.ok_or(UNDERFLOW)?, name.ok_or(UNDERFLOW)?)?;
                self.stack.push(Value::Name(name));
            }
            b'R' => self.call()?,
            b'b' => self.set_state()?,
            other => {
                return Err(format!("has the operation {other:#04x}, which CIFAR does not use"));
            }
        }
        Ok(())
    }

    fn bytes(&mut self, n: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(n).ok_or(CUT)?;
        let bytes = self.file.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(bytes)
    }

    fn number<const N: usize>(&mut self) -> Result<u64, String> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.bytes(N)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// Numbers of four bytes have a sign.
    fn int<const N: usize>(&mut self) -> Result<(), String> {
        let number = self.number::<N>()?;
        let number = if N == 4 { i64::from(number as u32 as i32) } else { number as i64 };
        self.stack.push(Value::Int(number));
        Ok(())
    }

    /// A text or bytes after their length.
    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let length = usize::try_from(self.number::<N>()?).map_err(|_| CUT)?;
        let start = self.at;
        self.bytes(length)?;
        self.stack.push(Value::Text(start..self.at));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a [u8], String> {
        let rest = &self.file[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or(CUT)?;
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(|| UNDERFLOW.to_owned())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark));
        let mut items = self.stack.split_off(mark.ok_or(UNDERFLOW)?);
        items.remove(0);
        Ok(items)
    }

    fn tuple(&mut self, n: usize) -> Result<(), String> {
        let start = self.stack.len().checked_sub(n).ok_or(UNDERFLOW)?;
        let items = self.stack.split_off(start);
        self.push_tuple(items)
    }

    fn push_tuple(&mut self, items: Vec<Value>) -> Result<(), String> {
        check_depth(&items)?;
        self.stack.push(Value::Tuple(items));
        Ok(())
    }

    fn extend(&mut self, items: Vec<Value>) -> Result<(), String> {
        check_depth(&items)?;
        match self.stack.last_mut() {
            Some(Value::List(list)) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(UNDERFLOW.to_owned()),
        }
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<(), String> {
        check_depth(&items)?;
        let Some(Value::Dict(entries)) = self.stack.last_mut() else {
            return Err(UNDERFLOW.to_owned());
        };
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            entries.push((key, value));
        }
        Ok(())
    }

    fn put<const N: usize>(&mut self) -> Result<(), String> {
        let place = self.number::<N>()? as u32;
        self.keep(place)
    }

    /// Values are kept as they are now, and a container only while it is empty: copies of copies
    /// would take memory without bound. CIFAR uses no other container twice; where one were, the
    /// fingerprints would not fit.
    fn keep(&mut self, place: u32) -> Result<(), String> {
        let value = self.stack.last().ok_or(UNDERFLOW)?;
        let small = match value {
            Value::List(items) | Value::Tuple(items) => items.is_empty(),
            Value::Dict(entries) => entries.is_empty(),
            _ => true,
        };
        let value = if small { value.clone() } else { Value::Nothing };
        self.memo.insert(place, value);
        Ok(())
    }

    fn get<const N: usize>(&mut self) -> Result<(), String> {
        let place = self.number::<N>()? as u32;
        let value = self.memo.get(&place).ok_or(UNDERFLOW)?.clone();
        self.stack.push(value);
        Ok(())
    }

    /// Stands in for the call of one of the known functions.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Name(name), Value::Tuple(arguments)) = (function, arguments) else {
            return Err("calls something that is not a function".to_owned());
        };
        self.stack.push(match (name, arguments.first()) {
            (Name::Reconstruct, _) => Value::Array(0..0),
            (Name::Dtype, Some(kind)) if kind.text(self.file) == Some(b"u1") => Value::Dtype,
            (Name::Dtype, _) => {
                return Err("holds an array whose elements are not bytes".to_owned());
            }
            // Keys of a dictionary; bytes beyond ASCII would take two here.
            (Name::Encode, Some(Value::Text(range))) => Value::Text(range.clone()),
            _ => return Err("calls something that is no function".to_owned()),
        });
        Ok(())
    }

    /// An array's state is (version, shape, dtype, whether columns come first, bytes).
    fn set_state(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        match (self.stack.last_mut(), state) {
            (Some(Value::Dtype), _) => Ok(()),
            (Some(Value::Array(bytes)), Value::Tuple(state)) => match &state[..] {
                [_, _, Value::Dtype, Value::Int(0), Value::Text(range)] => {
                    *bytes = range.clone();
                    Ok(())
                }
                _ => Err("holds an array of another layout than CIFAR's".to_owned()),
            },
            _ => Err("sets the state of something that is not an array".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
