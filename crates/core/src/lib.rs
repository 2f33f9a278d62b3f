//! What both ends of Stonechat must agree on.
#![no_std]
