"""Recordings in: files from watches become workout documents and track chunks."""
