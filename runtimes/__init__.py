"""Devices and the engines that compile for them and run on them."""
