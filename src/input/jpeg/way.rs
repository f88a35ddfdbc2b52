//! How programs decode where JPEG leaves a choice. Spec: D4.18

/// How a program decodes, where JPEG leaves a choice; by default as libjpeg-turbo does. Spec: D4.18
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::input) struct Way {
    /// The fast DCT in place of the exact one.
    pub fast: bool,
    /// How chroma becomes as large as the image.
    pub chroma: Chroma,
}

/// How chroma becomes as large as the image. Spec: D4.18
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::input) enum Chroma {
    /// By a triangle filter. Spec: E4.26
    #[default]
    Fancy,
    /// Samples are repeated.
    Plain,
    /// By the sample around a pixel that makes its colour least.
    Least,
    /// By the sample around a pixel that makes its colour greatest.
    Most,
}
