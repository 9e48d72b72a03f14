"""Interoperability: conversion from other libraries."""
