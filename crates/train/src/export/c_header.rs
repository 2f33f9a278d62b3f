//! Writes a file as a C byte array, for Arduino, ESP-IDF and every other C or C++ build.

use core::fmt::Write;

use thiserror::Error;

/// Bytes in a line of the array.
const BYTES_A_LINE: usize = 12;

/// Why no header can be written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CHeaderError {
    /// No identifier can be made of the name.
    #[error("no C identifier can be made of the name `{name}`: it needs an ASCII letter or digit")]
    Name {
        /// The name given.
        name: String,
    },
    /// There is nothing to write.
    #[error("`{name}` is empty: C has no array without elements")]
    Empty {
        /// The name given.
        name: String,
    },
}

/// Writes `bytes` as a header with an array aligned to 16 bytes and its length.
///
/// The identifiers follow the file's name as `xxd -i` makes them: `fan-1.tflite` becomes
/// `fan_1_tflite` and `fan_1_tflite_len`; names that might clash are preceded by `data_`. The header compiles as C from C99 on and as C++ from C++11 on,
/// and may be included in several source files.
///
/// # Errors
/// When the name has no ASCII letter or digit, or there are no bytes.
pub fn c_header(file_name: &str, bytes: &[u8]) -> Result<String, CHeaderError> {
    let name = identifier(file_name)?;
    if bytes.is_empty() {
        return Err(CHeaderError::Empty { name: file_name.into() });
    }
    let guard = format!("{}_H", name.to_ascii_uppercase());
    let len = bytes.len();
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "/* {len} bytes, written by Stonechat {version}.\n\
         {usage}\
         */\n\
         #ifndef {guard}\n\
         #define {guard}\n\
         \n\
         #if defined(__cplusplus)\n\
         #define {guard}_ALIGN alignas(16)\n\
         #elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L\n\
         #define {guard}_ALIGN _Alignas(16)\n\
         #elif defined(__GNUC__)\n\
         #define {guard}_ALIGN __attribute__((aligned(16)))\n\
         #else\n\
         #error \"this compiler has no known way to align an array to 16 bytes\"\n\
         #endif\n\
         \n\
         {guard}_ALIGN static const unsigned char {name}[] = {{\n",
        usage = usage(&name),
    );
    for line in bytes.chunks(BYTES_A_LINE) {
        let mut separator = "  ";
        for byte in line {
            // Writing to a String cannot fail.
            let _ = write!(text, "{separator}0x{byte:02x},");
            separator = " ";
        }
        text.push('\n');
    }
    let _ = write!(
        text,
        "}};\nstatic const unsigned int {name}_len = {len}u;\n\n#undef {guard}_ALIGN\n#endif /* {guard} */\n"
    );
    Ok(text)
}

/// How the header is used, as the lines of a comment.
fn usage(name: &str) -> String {
    if name.ends_with("_tflite") {
        format!(
            " * Arduino and ESP-IDF with TensorFlow Lite Micro: put this file beside the sketch or component,\n\
             \x20*   const tflite::Model* model = tflite::GetModel({name});\n"
        )
    } else {
        format!(" * Use: the bytes {name}[0] to {name}[{name}_len - 1].\n")
    }
}

/// Makes a C identifier that no keyword and no reserved name equals.
fn identifier(file_name: &str) -> Result<String, CHeaderError> {
    let mut identifier = String::new();
    for letter in file_name.chars() {
        if letter.is_ascii_alphanumeric() {
            identifier.push(letter);
        } else if !identifier.is_empty() && !identifier.ends_with('_') {
            // Two underscores together are reserved in C++, a leading one in C.
            identifier.push('_');
        }
    }
    let trimmed = identifier.trim_end_matches('_');
    let Some(first) = trimmed.chars().next() else {
        return Err(CHeaderError::Name { name: file_name.into() });
    };
    // A word without one of these endings might be a keyword or a type.
    let distinct = trimmed.ends_with("_tflite") || trimmed.ends_with("_detector");
    if first.is_ascii_digit() || !distinct {
        Ok(format!("data_{trimmed}"))
    } else {
        Ok(trimmed.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        for (name, expected) in [
            ("fan.tflite", "fan_tflite"),
            ("fan-1.tflite", "fan_1_tflite"),
            ("3d printer.tflite", "data_3d_printer_tflite"),
            ("int", "data_int"),
            ("wchar_t", "data_wchar_t"),
            ("fan.detector", "fan_detector"),
            ("__a__b__.tflite", "a_b_tflite"),
            ("lüfter.tflite", "l_fter_tflite"),
            ("x */ #error y.tflite", "x_error_y_tflite"),
        ] {
            assert_eq!(identifier(name).unwrap(), expected);
        }
        assert!(identifier("€.*").is_err());
        assert!(identifier("").is_err());
        assert!(c_header("fan.tflite", &[]).is_err());
    }

    #[test]
    fn the_array_holds_the_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = c_header("fan.tflite", &bytes).unwrap();
        let array = text.split('{').nth(1).unwrap().split('}').next().unwrap();
        let found: Vec<u8> = array
            .split(',')
            .filter_map(|item| item.trim().strip_prefix("0x"))
            .map(|digits| u8::from_str_radix(digits, 16).unwrap())
            .collect();
        assert_eq!(found, bytes);
        assert!(text.contains("fan_tflite_len = 256u;"));
    }
}
